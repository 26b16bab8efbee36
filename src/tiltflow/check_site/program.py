"""The program itself: its version, and the settings that are in force."""

from __future__ import annotations

import platform
from pathlib import Path

import tiltflow
from tiltflow.check_site.finding import Finding, Site, good, note
from tiltflow.settings import settings_file, settings_given, unknown_variables
from tiltflow.version import __version__, build


def check_version(_site: Site | None = None) -> Finding:
    """Tell version, commit and place."""
    commit = f" ({build()})" if build() else ""
    place, python = Path(tiltflow.__file__).parent, platform.python_version()
    return good(f"tiltflow {__version__}{commit} in {place}, Python {python}")


def check_settings(site: Site) -> Finding:
    """Tell which settings are given, and which variables look like settings and are none."""
    file = settings_file()
    where = f"; the file is {file}" if file else ""
    found = f"given: {', '.join(settings_given(site.settings)) or 'none'}{where}"
    if unknown := unknown_variables():
        return note(f"{found}; {' '.join(unknown)}", "correct or unset these variables")
    return good(found)
