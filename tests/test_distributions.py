"""What the two distributions install: tiltflow, and the door that a site installs on purpose."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.wheel import WheelBuilder

from tiltflow.version import COMMIT_FILE, __version__

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


@pytest.fixture
def repository(tmp_path):
    """A repository of its own with tiltflow in it, committed, and the commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for package in ("tiltflow", "tiltflow_flows"):
        shutil.copytree(ROOT / "src" / package, folder / "src" / package, ignore=shutil.ignore_patterns("__pycache__", COMMIT_FILE))
    identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "-m", "tiltflow"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    said = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return folder, said.stdout.strip()


def build(folder, kind, place):
    """Build a distribution as pip does, without the network, and return it."""
    program = f"import hatchling.build as b; print(b.build_{kind}({str(place)!r}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, capture_output=True, text=True)
    return place / done.stdout.split()[-1]


def installed_version(wheel, place):
    """Return what an installed tiltflow says of itself, and what it writes into a record."""
    with ZipFile(wheel) as files:
        files.extractall(place)
    program = "from tiltflow.describe import versions; from tiltflow.cli import main; print(versions()['commit']); main()"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PYTHONPATH": str(place)}
    command = [sys.executable, "-c", program, "--version"]
    return subprocess.run(command, env=environment, cwd=place, check=True, capture_output=True, text=True).stdout.splitlines()


def test_a_wheel_knows_the_commit_that_it_was_built_from(repository, tmp_path):
    folder, commit = repository
    wheel = build(folder, "wheel", tmp_path)
    assert installed_version(wheel, tmp_path / "installed") == [commit, f"tiltflow {__version__} ({commit})"]
    assert not list(folder.rglob(COMMIT_FILE)), "a build leaves nothing in the checkout"


def test_a_wheel_of_a_source_archive_knows_it_too(repository, tmp_path):
    folder, commit = repository
    with tarfile.open(build(folder, "sdist", tmp_path)) as archive:
        archive.extractall(tmp_path / "sources", filter="data")
    (sources,) = (tmp_path / "sources").iterdir()
    wheel = build(sources, "wheel", tmp_path)
    assert installed_version(wheel, tmp_path / "installed") == [commit, f"tiltflow {__version__} ({commit})"]


def test_a_build_of_changed_files_says_so(repository, tmp_path):
    folder, commit = repository
    with (folder / "src" / "tiltflow" / "errors.py").open("a") as file:
        file.write("# changed\n")
    told = installed_version(build(folder, "wheel", tmp_path), tmp_path / "installed")
    assert told[0] == f"{commit} modified"


def test_sources_without_git_have_no_commit_and_can_be_built(repository, tmp_path):
    folder, _commit = repository
    shutil.rmtree(folder / ".git")
    with ZipFile(build(folder, "wheel", tmp_path)) as files:
        assert f"tiltflow/{COMMIT_FILE}" not in files.namelist()
