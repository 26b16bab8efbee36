"""The installed IMOD: its place and version, and the options that the site sets."""

from __future__ import annotations

from pathlib import Path

from tiltflow.command import find_program
from tiltflow.model import Site
from tiltflow.recipe.engine_rules import EngineOption

PROGRAM = "batchruntomo"

FEWEST_CPUS, MOST_CPUS = 2, 128
"""What batchruntomo accepts as a number after -cp; one core is used when the option is left out."""

OPTIONS = (
    EngineOption(
        "imod_cpus", None, "Option -cp of batchruntomo: a number of cores or a list of machines; the cores of the job if not given."
    ),
    EngineOption("imod_gpu", None, "Option -gpu of batchruntomo; no GPU if not given."),
    EngineOption("imod_audit", "1", "Whether tiltflow measures the error of IMOD's alignments: 1 or 0."),
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


def audits(site: Site) -> bool:
    """Return whether the site has the error of IMOD's alignments measured."""
    return site.engine_options.get("imod_audit", "1") not in {"0", "false", "no", "off"}


def find_imod() -> Path | None:
    """Return `batchruntomo` as it is found on the PATH."""
    return find_program(PROGRAM)


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
