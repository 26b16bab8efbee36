"""The installed IMOD: its place and version, and the options that the site sets."""

from __future__ import annotations

from pathlib import Path

from tiltflow.command import find_programs
from tiltflow.model import Site
from tiltflow.recipe.engine_rules import EngineOption

PROGRAM = "batchruntomo"

STAND_IN = "tiltflow-batchruntomo"
"""The console script that does batchruntomo's work with tiltflow's own engine, and that may be linked under batchruntomo's name."""
_CALLS = (STAND_IN.encode(), b"tiltflow.batchruntomo", b"tiltflow batchruntomo")
"""How a script calls the stand-in."""
_SCRIPT_BYTES = 4096
"""How much of a script is searched; IMOD's own batchruntomo is a script too, fifty times as long, and calls none of these."""

FEWEST_CPUS, MOST_CPUS = 2, 128
"""What batchruntomo accepts as a number after -cp; one core is used when the option is left out."""

OPTIONS = (
    EngineOption(
        "imod_cpus", None, "Option -cp of batchruntomo: a number of cores or a list of machines; the cores of the job if not given."
    ),
    EngineOption("imod_gpu", None, "Option -gpu of batchruntomo; no GPU if not given."),
)


def arguments(site: Site) -> list[str]:
    """Return the arguments of batchruntomo that the site sets.

    >>> arguments(Site(threads=8)), arguments(Site(threads=1)), arguments(Site(engine_options={"imod_cpus": "1"}))
    (['-cp', '8'], [], [])
    """
    asked = {option.name: site.engine_options.get(option.name, option.default) for option in OPTIONS}
    cpus = asked["imod_cpus"] or str(site.threads)
    if cpus.isdigit():
        cpus = "" if int(cpus) < FEWEST_CPUS else str(min(int(cpus), MOST_CPUS))
    given = (("-cp", cpus), ("-gpu", asked["imod_gpu"]))
    return [word for name, value in given if value for word in (name, value)]


def find_imod() -> Path | None:
    """Return IMOD's `batchruntomo` as it is found on the PATH; tiltflow's own stand-in of that name is passed over."""
    return next((path for path in find_programs(PROGRAM) if not is_stand_in(path)), None)


def is_stand_in(program: Path) -> bool:
    """Return whether a program of IMOD's name is tiltflow's stand-in: a link to its script, a copy of it, or a script that calls it."""
    if program.resolve().name.startswith(STAND_IN):
        return True
    try:
        with program.open("rb") as file:
            beginning = file.read(_SCRIPT_BYTES)
    except OSError:
        return False
    return beginning.startswith(b"#!") and any(word in beginning for word in _CALLS)


def imod_version() -> str:
    """Return the version of the installed IMOD, or why it is not known."""
    program = find_imod()
    if program is None:
        return "not installed"
    for folder in (program.resolve().parent.parent, program.parent.parent):
        file = folder / "VERSION"
        if file.is_file():
            return f"IMOD {file.read_text(encoding='utf-8', errors='replace').split()[0]}"
    return f"IMOD of unknown version ({program})"
