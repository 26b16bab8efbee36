"""The name `em_workflows.brt.flow:brt_flow`: what it starts, and how an operator learns that it starts something else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("prefect", reason="needs the extra [prefect]")

from prefect.flows import load_flow_from_entrypoint

from tiltflow.errors import LocationError
from tiltflow_flows.brt import brt_flow
from tiltflow_flows.door import ENTRYPOINT, OWN_ENTRYPOINT

pytestmark = pytest.mark.filterwarnings("default")  # Prefect's own deprecations are not ours to mend

ROOT = Path(__file__).parents[2]
SOURCES, DOOR = ROOT / "src", ROOT / "door" / "src"
DOOR_FILE = DOOR / "em_workflows" / "brt" / "flow.py"


@pytest.mark.parametrize("entrypoint", [ENTRYPOINT, OWN_ENTRYPOINT])
def test_a_deployment_under_either_name_starts_the_very_same_flow(entrypoint: str) -> None:
    assert load_flow_from_entrypoint(entrypoint) is brt_flow


def write_stand_in(folder: Path, *, with_flow: bool = True) -> Path:
    """Write another package of the name, which must not be imported to be looked at."""
    brt = folder / "em_workflows" / "brt"
    brt.mkdir(parents=True)
    (brt.parent / "__init__.py").write_text("raise RuntimeError('imported')\n")
    if with_flow:
        (brt / "__init__.py").touch()
        (brt / "flow.py").write_text("raise RuntimeError('imported')\n")
    return brt / "flow.py"


def ask(*path: Path) -> tuple[int, str]:
    """Ask in a new interpreter that finds packages in these folders alone."""
    found = os.pathsep.join(str(folder) for folder in (*path, SOURCES))
    command = [sys.executable, "-S", "-m", "tiltflow_flows.door"]  # -S: what is installed beside tiltflow is not looked at
    done = subprocess.run(command, env={"PYTHONPATH": found}, cwd=ROOT / "docs", capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_the_door_says_that_it_leads_to_this_flow() -> None:
    status, said = ask(DOOR)
    assert (status, said) == (0, f"{ENTRYPOINT} is tiltflow's BRT flow, by the door {DOOR_FILE}\n")


@pytest.mark.parametrize("before", [True, False])
def test_another_package_of_the_name_hides_the_door_wherever_it_stands_on_the_path(before: bool, tmp_path: Path) -> None:
    theirs = write_stand_in(tmp_path)
    status, said = ask(tmp_path, DOOR) if before else ask(DOOR, tmp_path)
    assert status == 1
    assert said.startswith(f"{ENTRYPOINT} is not tiltflow's flow but that of {theirs}, which hides tiltflow's door {DOOR_FILE}. ")
    assert "Uninstall the other package" in said
    assert OWN_ENTRYPOINT in said


def test_a_package_inside_one_without_init_hides_the_door_as_python_has_it(tmp_path: Path) -> None:
    theirs = write_stand_in(tmp_path)
    (tmp_path / "em_workflows" / "__init__.py").unlink()
    theirs.write_text("brt_flow = 'theirs'\n")
    status, said = ask(DOOR, tmp_path)
    assert status == 1
    assert f"not tiltflow's flow but that of {theirs}" in said
    imported = "from em_workflows.brt import flow; print(flow.__file__)"
    environment = {"PYTHONPATH": os.pathsep.join([str(DOOR), str(tmp_path)])}
    done = subprocess.run([sys.executable, "-S", "-c", imported], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(theirs)


def test_a_package_of_the_name_without_the_flow_hides_the_door_too(tmp_path: Path) -> None:
    theirs = write_stand_in(tmp_path, with_flow=False).parents[1]
    status, said = ask(tmp_path, DOOR)
    assert status == 1
    assert f"cannot be imported: the package {theirs} has no such module, which hides tiltflow's door {DOOR_FILE}" in said


def test_without_the_door_the_message_says_how_to_install_it(tmp_path: Path) -> None:
    status, said = ask(tmp_path)
    assert status == 1
    assert said.startswith(f"Nothing is installed under the name {ENTRYPOINT}: ")
    assert "pip install ./door" in said
    theirs = write_stand_in(tmp_path)
    status, said = ask(tmp_path)
    assert status == 1
    assert said.startswith(f"{ENTRYPOINT} is not tiltflow's flow but that of {theirs}. Install tiltflow's door")


def test_a_door_in_the_place_of_the_other_packages_module_leaves_the_rest_of_it_alone(tmp_path: Path) -> None:
    theirs = write_stand_in(tmp_path)
    theirs.write_bytes(DOOR_FILE.read_bytes())  # as installing both into one folder does
    status, said = ask(tmp_path)
    assert (status, said) == (0, f"{ENTRYPOINT} is tiltflow's BRT flow, by the door {theirs}\n")


def test_a_flow_whose_door_is_hidden_says_so_in_its_log(
    prefect_server: None, share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "em_workflows"]:
        monkeypatch.delitem(sys.modules, name)
    theirs = write_stand_in(tmp_path / "checkout")
    for path in (DOOR, tmp_path / "checkout"):
        monkeypatch.syspath_prepend(path)
        with pytest.raises(LocationError):
            brt_flow(0, 10, 0, 1, 0, 0, 20, 0, 50, file_share="lap", input_dir=".")
    said = [(line.levelname, line.getMessage()) for line in caplog.records if line.getMessage().startswith(ENTRYPOINT)]
    assert [level for level, _ in said] == ["INFO", "WARNING"]
    assert f"by the door {DOOR_FILE}" in said[0][1]
    assert f"is not tiltflow's flow but that of {theirs}" in said[1][1]
