"""The version, stated only here, and the commit: of the checkout that tiltflow runs from, or that it was built from."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

__version__ = "0.2.0"

COMMIT_FILE = "commit.txt"
"""The file beside this one in which a build keeps the commit; a checkout has none."""
_PATIENCE_S = 5.0
"""Longest wait for git, which answers in milliseconds unless a disk hangs."""


@functools.cache
def build() -> str:
    """Return the commit that this code is of, with `modified` where files of it were changed since; empty if it is not known.

    >>> build() == "" or len(build().split()[0]) >= 7
    True
    """
    package = Path(__file__).resolve().parent
    return _of_checkout(package) or _recorded(package)


def _of_checkout(package: Path) -> str:
    if not any((folder / ".git").exists() for folder in package.parents):
        return ""
    commit = _git(package, "rev-parse", "--short=10", "HEAD")
    # A package that lies in somebody's repository without being part of it has no commit of its own.
    if not commit or not _git(package, "ls-files", "version.py"):
        return ""
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return f"{commit} modified" if changed else commit


def _recorded(package: Path) -> str:
    try:
        return (package / COMMIT_FILE).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
