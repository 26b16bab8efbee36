"""Which package's flow the name `em_workflows.brt.flow:brt_flow` starts in this environment.

The name is a contract with portals and deployments, but another distribution has a package `em_workflows` as well.  The door, a
distribution of its own, makes Python answer to the name with :mod:`tiltflow_flows.brt`.  Where it is not installed, or a Python was
started that reads no `.pth` files, deployments start the flow of the other package, without an error.  :func:`describe_door` reports
this, and `python -m tiltflow_flows.door` prints it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

ENTRYPOINT = "em_workflows.brt.flow:brt_flow"
OWN_ENTRYPOINT = "tiltflow_flows.brt:brt_flow"
"""The same flow under a name that no other package has."""

_DOOR = "tiltflow_door"
_LINE = "from tiltflow_flows.brt import brt_flow"
"""The line by which a file of that name is recognised as the door of older versions, which lay in the other package's place."""


@dataclass(frozen=True, slots=True)
class Door:
    """The result of an import of the name.

    Attributes
    ----------
    found
        The file that is imported; None if there is none.
    package
        The folder of the package `em_workflows` that Python finds first; None if there is none.
    leads_here
        Whether the name starts tiltflow's flow.
    installed
        Whether the door is installed.
    """

    found: Path | None
    package: Path | None
    leads_here: bool
    installed: bool

    @property
    def leads_elsewhere(self) -> bool:
        """Whether the name starts another package's flow, or nothing although the door is installed."""
        return not self.leads_here and (self.found is not None or self.installed)

    @property
    def message(self) -> str:
        """What the name starts and, if that is not tiltflow's flow, what to do."""
        if self.leads_here:
            beside = f"; the package {self.package} beside it is whole" if self.package else ""
            return f"{ENTRYPOINT} is tiltflow's BRT flow, by the door {self.found}{beside}"
        either = f"or let deployments name {OWN_ENTRYPOINT}, which needs no door"
        theirs = f"{ENTRYPOINT} is not tiltflow's flow but that of {self.found}" if self.found else f"{ENTRYPOINT} starts nothing"
        if self.installed:
            return (
                f"{theirs}. tiltflow's door is installed, and this Python has not read tiltflow_door.pth: start it without -S and "
                f"-I, from the environment that the door is installed in, {either}."
            )
        if self.found is None:
            return f"Nothing is installed under the name {ENTRYPOINT}: install tiltflow's door (pip install ./door), {either}."
        return f"{theirs}. Install tiltflow's door (pip install ./door), which leaves that package whole, {either}."


def describe_door() -> Door:
    """Return what an import of `em_workflows.brt.flow` finds, without importing it."""
    module = sys.modules.get(_DOOR)
    finder = getattr(module, "Door", None)
    spec = PathFinder.find_spec("em_workflows")  # of a top-level name: no code is run
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec is not None else []
    package = folders[0] if folders else None
    if finder is not None and finder in sys.meta_path:
        return Door(Path(str(getattr(module, "FLOW", ""))), package, leads_here=True, installed=True)
    files = (folder / "flow.py" for folder in _package("brt", folders))
    found = next((path.resolve() for path in files if path.is_file()), None)
    installed = module is not None or find_spec(_DOOR) is not None
    return Door(found, package, leads_here=found is not None and _is_door(found), installed=installed)


def _package(name: str, folders: Iterable[Path]) -> list[Path]:
    """Return the folders of a package inside another, as the import system chooses them.

    `find_spec` would run the `__init__.py` of the outer package to find the inner one, with unknown side effects.
    """
    portions: list[Path] = []
    for folder in folders:
        place = folder / name
        if (place / "__init__.py").is_file():
            return [place]
        if place.is_dir():
            portions.append(place)
    return portions


def _is_door(path: Path) -> bool:
    try:
        return _LINE in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def main() -> int:
    """Print which flow the name starts; the exit status is 0 if it is tiltflow's."""
    door = describe_door()
    sys.stdout.write(f"{door.message}\n")
    return 0 if door.leads_here else 1


if __name__ == "__main__":
    sys.exit(main())
