"""Which package's flow the name `em_workflows.brt.flow:brt_flow` starts in this environment.

The name is a contract with portals and deployments, but another distribution has a package `em_workflows` as well.  The door, a
distribution of its own, is one file under that name that leads to :mod:`tiltflow_flows.brt`.  A package of the same name that
Python finds first, a checkout in the working directory for instance, hides it: deployments then start the flow of that package,
without an error.  :func:`describe_door` reports this, and `python -m tiltflow_flows.door` prints it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ENTRYPOINT = "em_workflows.brt.flow:brt_flow"
OWN_ENTRYPOINT = "tiltflow_flows.brt:brt_flow"
"""The same flow under a name that no other package has."""

_LINE = "from tiltflow_flows.brt import brt_flow"
"""The line by which a file of that name is recognised as the door."""


@dataclass(frozen=True, slots=True)
class Door:
    """The result of an import of the name.

    Attributes
    ----------
    found
        The file that is imported; None if there is none.
    package
        The folder of the package `em_workflows` that Python finds first; None if there is none.
    own
        The door of tiltflow, the first one on the path; None if it is not installed.
    """

    found: Path | None
    package: Path | None
    own: Path | None

    @property
    def leads_here(self) -> bool:
        """Whether the name starts tiltflow's flow."""
        return self.found is not None and self.found == self.own

    @property
    def leads_elsewhere(self) -> bool:
        """Whether the name starts another package's flow, or fails because of another package."""
        return not self.leads_here and (self.found is not None or self.own is not None)

    @property
    def message(self) -> str:
        """What the name starts and, if that is not tiltflow's flow, what to do."""
        if self.leads_here:
            return f"{ENTRYPOINT} is tiltflow's BRT flow, by the door {self.found}"
        either = f"or let deployments name {OWN_ENTRYPOINT}, which needs no door"
        if not self.leads_elsewhere:
            return f"Nothing is installed under the name {ENTRYPOINT}: install tiltflow's door (pip install ./door), {either}."
        if self.found is None:
            theirs = f"{ENTRYPOINT} cannot be imported: the package {self.package} has no such module"
        else:
            theirs = f"{ENTRYPOINT} is not tiltflow's flow but that of {self.found}"
        if self.own is None:
            return f"{theirs}. Install tiltflow's door (pip install ./door) in an environment without that package, {either}."
        return (
            f"{theirs}, which hides tiltflow's door {self.own}. Uninstall the other package, or take its folder off Python's path "
            f"(PYTHONPATH, the working directory), {either}."
        )


def describe_door() -> Door:
    """Return what an import of `em_workflows.brt.flow` finds, without importing it."""
    spec = find_spec("em_workflows")  # of a top-level name: no code is run
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec is not None else []
    files = (folder / "flow.py" for folder in _package("brt", folders))
    found = next((path.resolve() for path in files if path.is_file()), None)
    of_the_name = (Path(entry) / "em_workflows" / "brt" / "flow.py" for entry in sys.path)
    own = next((path.resolve() for path in of_the_name if _is_door(path)), None)
    return Door(found, folders[0] if folders else None, own)


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
