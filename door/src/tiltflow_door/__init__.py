"""The door: `em_workflows.brt.flow` is tiltflow's flow in an environment that this package is installed in.

The name belongs to the package of NIAID.  No file is put under it: :func:`hang` gives Python's import system a finder that answers for
this one module before all others, wherever another package of the name lies, and `tiltflow_door.pth` calls it at the start of Python.
So the other package is whole beside the door, and without it is what it was.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

NAME = "em_workflows.brt.flow"
FLOW = Path(__file__).with_name("flow.py")
_PACKAGES = frozenset({"em_workflows", "em_workflows.brt"})


class Door:
    """Finds the module, before anybody else."""

    @staticmethod
    def find_spec(name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None) -> ModuleSpec | None:
        """Return where the module is, and nothing of any other."""
        return spec_from_file_location(NAME, FLOW) if name == NAME else None


class Frame:
    """Finds the packages around the module, after everybody else: empty ones, where no other package has the name."""

    @staticmethod
    def find_spec(name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None) -> ModuleSpec | None:
        """Return an empty package for the two names, and nothing of any other."""
        if name not in _PACKAGES:
            return None
        found = ModuleSpec(name, None, is_package=True)
        found.submodule_search_locations = []
        return found


def hang() -> None:
    """Put the finders into their places; once is enough."""
    if Door not in sys.meta_path:
        sys.meta_path.insert(0, Door)
        sys.meta_path.append(Frame)
