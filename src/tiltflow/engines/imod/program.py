"""Where IMOD is, and which version."""

from __future__ import annotations

from pathlib import Path

from tiltflow.command import find_program

PROGRAM = "batchruntomo"


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
