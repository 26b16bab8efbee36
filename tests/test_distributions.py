"""What the two distributions install: tiltflow, and the door that a site installs on purpose."""

from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The files that each wheel puts into an environment."""

    def build(project, name):
        (wheel,) = WheelBuilder(str(project)).build(directory=str(tmp_path_factory.mktemp(name)), versions=["standard"])
        with ZipFile(wheel) as files:
            return set(files.namelist())

    return {"tiltflow": build(ROOT, "tiltflow"), "door": build(ROOT / "door", "door")}


def modules(names):
    return {name for name in names if ".dist-info/" not in name}


def test_tiltflow_installs_nothing_under_the_name_of_another_package(installed):
    assert {name.split("/")[0] for name in modules(installed["tiltflow"])} == {"tiltflow", "tiltflow_flows"}


def test_the_door_puts_nothing_under_the_name_of_the_other_package(installed):
    assert modules(installed["door"]) == {"tiltflow_door.pth", "tiltflow_door/__init__.py", "tiltflow_door/flow.py"}


def test_no_file_is_in_both(installed):
    assert not installed["tiltflow"] & installed["door"]


def test_the_packages_are_whole(installed):
    for package in ("tiltflow", "tiltflow_flows"):
        sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / package).rglob("*.py")}
        assert len(sources) > 5
        assert sources <= installed["tiltflow"]
