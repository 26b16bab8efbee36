"""Values of settings, as variables of the environment and files give them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from tiltflow.interchange.targets import target_names
from tiltflow.recipe.engine_rules import OFF, engine_choices, engine_names


def parse_mounts(value: Any) -> Any:
    """Read `name=/path:name2=/path2`; JSON and tables pass through."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return _from_json(value)
    mounts: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in value.split(":"))):
        name, separator, path = part.partition("=")
        if not separator or not name.strip() or not path.strip():
            raise ValueError(f"{part!r} is not of the form name=/path; write name=/path:name2=/path2, or JSON")
        if name.strip() in mounts:
            raise ValueError(f"share {name.strip()!r} is given twice")
        mounts[name.strip()] = path.strip()
    return mounts


def absolute(value: Any) -> Any:
    """Return an absolute path; other values pass through."""
    if not isinstance(value, (str, Path)):
        return value
    path = Path(value).expanduser()
    if not path.is_absolute():
        raise ValueError(f"{str(value)!r} is not an absolute path")
    return path


def lines(value: Any) -> Any:
    """Read a list from one variable: JSON, or parts between semicolons."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return _from_json(value)
    return [part.strip() for part in value.split(";") if part.strip()]


def _from_json(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"{value!r} begins like JSON but is not valid ({error})") from error


def known_engine(value: str) -> str:
    """Return the name of an engine, or a choice among them."""
    if value not in engine_choices():
        raise ValueError(f"{value!r} is not an engine; give {', '.join(engine_choices())}")
    return value


def known_fallback(value: str) -> str:
    """Return the name of an engine, or `off`."""
    if value not in (OFF, *engine_names()):
        raise ValueError(f"{value!r} is not an engine; give {', '.join((OFF, *engine_names()))}")
    return value


def known_targets(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of programs to export to, each once."""
    for name in names:
        if name not in target_names():
            raise ValueError(f"{name!r} is not a program to export to; give {', '.join(target_names())}")
    return tuple(dict.fromkeys(names))


def known_address(value: str) -> str:
    """Return an address that can be fetched, or nothing."""
    if value and not value.startswith(("http://", "https://", "s3://", "gs://")):
        raise ValueError(f"{value!r} is not an address; it must begin with http://, https://, s3:// or gs://")
    return value


AbsolutePath = Annotated[Path, BeforeValidator(absolute)]
Mounts = Annotated[dict[str, AbsolutePath], BeforeValidator(parse_mounts)]
Lines = Annotated[tuple[str, ...], BeforeValidator(lines)]
Folders = Annotated[tuple[AbsolutePath, ...], BeforeValidator(lines)]
