"""What all entries of records have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Entry(BaseModel):
    """A part of a record: its fields are all known, and numbers that are not finite are null."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, ser_json_inf_nan="null")
