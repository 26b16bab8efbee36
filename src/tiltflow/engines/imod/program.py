"""The installed IMOD: its place and version, and the options that the site sets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from tiltflow.command import find_programs
from tiltflow.errors import SettingsError, UnsupportedError
from tiltflow.recipe.engine_rules import EngineOption, EngineOptions

if TYPE_CHECKING:
    from tiltflow.work import Site

PROGRAM = "batchruntomo"

STAND_IN = "tiltflow-batchruntomo"
"""The console script that does batchruntomo's work with tiltflow's own engine, and that may be linked under batchruntomo's name."""
_CALLS = (STAND_IN.encode(), b"tiltflow.batchruntomo", b"tiltflow batchruntomo")
"""How a script calls the stand-in."""
_SCRIPT_BYTES = 4096
"""How much of a script is searched; IMOD's own batchruntomo is a script too, fifty times as long, and calls none of these."""

FEWEST_CPUS, MOST_CPUS = 2, 128
"""What batchruntomo accepts as a number after -cp; one core is used when the option is left out."""

KEEP = "keep_imod"
"""The option that publishes what eTomo needs."""
LIMIT = "imod_limit_s"
"""The option that has the longest time of batchruntomo."""
_PLANS, _LEAST_S = 10.0, 3600.0
"""The limit over the planned time, which is right within a factor of two on an idle machine, and the least limit: on a busy or remote
disk a start alone may take minutes."""
AUDIT = "imod_audit"
"""The option that has the error of IMOD's alignments measured."""

OPTIONS = (
    EngineOption(
        "imod_cpus", None, "Option -cp of batchruntomo: a number of cores or a list of machines; the cores of the job if not given."
    ),
    EngineOption("imod_gpu", None, "Option -gpu of batchruntomo; no GPU if not given."),
    EngineOption(
        LIMIT,
        None,
        "Longest time of batchruntomo on one series, s; if not given, ten times the planned time, and an hour at least.",
    ),
    EngineOption(AUDIT, True, "Measure the error of IMOD's alignments by tiltflow's methods.", decides=True),
    EngineOption(
        KEEP,
        False,
        "Publish what eTomo needs beside the results of IMOD: models, residuals, prealignment, tilt angles and command files.",
        on_command_line=True,
    ),
)

_ALWAYS = ("{name}.adoc",)
_FOR_ETOMO = (
    "{name}.fid",
    "{name}.seed",
    "{name}.resid",
    "{name}.3dmod",
    "{name}.prexg",
    "{name}.rawtlt",
    "{name}.pl",
    "{name}.ecd",
    "{name}.edf",
    "*.com",
)
"""Small files with which eTomo shows and repeats the tracking and the fine alignment; none is a copy of the raw stack."""


def arguments(site: Site) -> list[str]:
    """Return the arguments of batchruntomo that the site sets.

    >>> from tiltflow.work import Site
    >>> arguments(Site(threads=8)), arguments(Site(threads=1)), arguments(Site(engine_options={"imod_cpus": "1"}))
    (['-cp', '8'], [], [])
    """
    cpus, gpu = (site.engine_options.get(name) for name in ("imod_cpus", "imod_gpu"))
    cpus = str(cpus or site.threads)
    if cpus.isdigit():
        cpus = "" if int(cpus) < FEWEST_CPUS else str(min(int(cpus), MOST_CPUS))
    given = (("-cp", cpus), ("-gpu", gpu))
    return [word for name, value in given if value for word in (name, str(value))]


def files_to_keep(options: EngineOptions, *, failed: bool) -> tuple[str, ...]:
    """Return patterns of the files that are published, besides those of every engine.

    >>> files_to_keep({}, failed=False)
    ('{name}.adoc',)
    """
    return (*_ALWAYS, *(_FOR_ETOMO if failed or options.get(KEEP) else ()))


def audits(site: Site) -> bool:
    """Return whether the site has the error of IMOD's alignments measured."""
    return bool(site.engine_options.get(AUDIT, True))


def time_limit_s(options: EngineOptions, planned_s: float) -> float:
    """Return the longest time that batchruntomo may take on a series, s, where the plan has `planned_s`.

    Raises
    ------
    SettingsError
        If the site's limit is no positive number.

    >>> time_limit_s({}, 60.0), time_limit_s({}, 7200.0), time_limit_s({"imod_limit_s": "900"}, 60.0)
    (3600.0, 72000.0, 900.0)
    """
    given = options.get(LIMIT)
    if given is None:
        return max(_PLANS * planned_s, _LEAST_S)
    try:
        limit = float(str(given))
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise SettingsError(f"setting {LIMIT}: {given!r} is no time in seconds; give a number above 0, or leave it out")
    return limit


def find_imod() -> Path | None:
    """Return IMOD's `batchruntomo` as it is found on the PATH; tiltflow's own stand-in of that name is passed over."""
    return next((path for path in find_programs(PROGRAM) if not is_stand_in(path)), None)


def required_imod(wanted_for: str) -> Path:
    """Return IMOD's `batchruntomo`, which must be there.

    Raises
    ------
    UnsupportedError
        If it is not on the PATH, or only the stand-in is.
    """
    if (program := find_imod()) is None:
        raise UnsupportedError(
            f"The engine imod was requested for {wanted_for}, but {PROGRAM} is not on the PATH: load IMOD "
            "(source IMOD-linux.sh), or use another engine (--engine)"
        )
    return program


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
