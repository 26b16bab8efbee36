"""Records as JSON, without losing an interrupt that comes meanwhile."""

from __future__ import annotations

import json

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from tiltflow import stopping


def as_json(model: BaseModel) -> str:
    """Return a record as indented JSON; names of files that are not UTF-8 are escaped.

    pydantic's serializer may drop an exception that a signal's handler raises, so that Ctrl-C would be lost: it is raised when the text
    is complete.
    """
    with stopping.held():
        try:
            return model.model_dump_json(indent=1, by_alias=True)
        except PydanticSerializationError:
            return json.dumps(model.model_dump(mode="json", by_alias=True), indent=1)
