"""Where IMOD is, which version, and what of its use the site decides."""

from __future__ import annotations

from pathlib import Path

from tiltflow.command import find_program
from tiltflow.model import Site
from tiltflow.recipe.engine_rules import EngineOption

PROGRAM = "batchruntomo"

OPTIONS = (
    EngineOption("imod_cpus", "1", "What batchruntomo is given as -cp: a number of cores or a list of machines."),
    EngineOption("imod_gpu", None, "What batchruntomo is given as -gpu; no GPU if not given."),
)


def arguments(site: Site) -> list[str]:
    """Return the arguments of batchruntomo that the site decides."""
    asked = {option.name: site.engine_options.get(option.name, option.default) for option in OPTIONS}
    given = (("-cp", asked["imod_cpus"]), ("-gpu", asked["imod_gpu"]))
    return [word for name, value in given if value is not None for word in (name, value)]


def find_imod() -> Path | None:
    """Return `batchruntomo` as it is found on the PATH."""
    return find_program(PROGRAM)


def imod_version() -> str:
    """Return IMOD's version as installed, or what is known instead."""
    program = find_imod()
    if program is None:
        return "not installed"
    for folder in (program.resolve().parent.parent, program.parent.parent):
        file = folder / "VERSION"
        if file.is_file():
            return f"IMOD {file.read_text(encoding='utf-8', errors='replace').split()[0]}"
    return f"IMOD of unknown version ({program})"
