"""Records in every wheel and source archive the commit that it was built from, without the network and without another package."""

from __future__ import annotations

import tempfile
from pathlib import Path
from runpy import run_path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface[Any]):
    """Puts a file with the commit beside `version.py`; a checkout, and what is installed from it to be edited, asks git instead."""

    _folder: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the file, if a commit is known; hatchling calls this before it builds."""
        if version == "editable":
            return
        known = run_path(str(Path(self.root) / "src" / "tiltflow" / "version.py"))
        if commit := known["build"]():
            self._folder = tempfile.TemporaryDirectory()
            file = Path(self._folder.name) / known["COMMIT_FILE"]
            file.write_text(f"{commit}\n", encoding="utf-8")
            package = "tiltflow" if self.target_name == "wheel" else "src/tiltflow"
            build_data["force_include"][str(file)] = f"{package}/{file.name}"

    def finalize(self, *_of_the_build: Any) -> None:
        """Remove what was made for the build."""
        if self._folder is not None:
            self._folder.cleanup()
