"""The name `em_workflows.brt.flow:brt_flow`: what it starts, and how an operator learns that it starts something else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

pytest.importorskip("prefect", reason="needs the extra [prefect]")

from hatchling.builders.wheel import WheelBuilder
from prefect.flows import load_flow_from_entrypoint

import tiltflow_door
from tiltflow.errors import LocationError
from tiltflow_flows.brt import brt_flow
from tiltflow_flows.door import ENTRYPOINT, OWN_ENTRYPOINT

pytestmark = pytest.mark.filterwarnings("default")  # Prefect's own deprecations are not ours to mend

ROOT = Path(__file__).parents[2]
SOURCES, DOOR = ROOT / "src", ROOT / "door" / "src"
FLOW = DOOR / "tiltflow_door" / "flow.py"
HUNG = "import tiltflow_door; tiltflow_door.hang(); "
"""What tiltflow_door.pth does where it is installed."""


@pytest.mark.parametrize("entrypoint", [ENTRYPOINT, OWN_ENTRYPOINT])
def test_a_deployment_under_either_name_starts_the_very_same_flow(entrypoint: str) -> None:
    assert load_flow_from_entrypoint(entrypoint) is brt_flow


def write_stand_in(folder: Path, *, with_flow: bool = True, with_init: bool = True) -> Path:
    """Write another package of the name, which must not be imported to be looked at."""
    brt = folder / "em_workflows" / "brt"
    brt.mkdir(parents=True)
    if with_init:
        (brt.parent / "__init__.py").write_text("raise RuntimeError('imported')\n")
        (brt / "__init__.py").touch()
    if with_flow:
        (brt / "flow.py").write_text("raise RuntimeError('imported')\n")
    return brt / "flow.py"


def ask(*path: Path, hung: bool = True) -> tuple[int, str]:
    """Ask in a new interpreter that finds packages in these folders alone."""
    found = os.pathsep.join(str(folder) for folder in (*path, SOURCES))
    program = f"{HUNG if hung else ''}import sys; from tiltflow_flows.door import main; sys.exit(main())"
    command = [sys.executable, "-S", "-c", program]  # -S: what is installed beside tiltflow is not looked at
    done = subprocess.run(command, env={"PYTHONPATH": found}, cwd=ROOT / "docs", capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_the_door_says_that_it_leads_to_this_flow() -> None:
    assert ask(DOOR) == (0, f"{ENTRYPOINT} is tiltflow's BRT flow, by the door {FLOW}\n")


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("kind", [{}, {"with_flow": False}, {"with_init": False}])
def test_no_package_of_the_name_hides_the_door_wherever_it_stands_on_the_path(
    before: bool, kind: dict[str, bool], tmp_path: Path
) -> None:
    theirs = write_stand_in(tmp_path, **kind).parents[1]
    status, said = ask(tmp_path, DOOR) if before else ask(DOOR, tmp_path)
    assert (status, said) == (
        0,
        f"{ENTRYPOINT} is tiltflow's BRT flow, by the door {FLOW}; the package {theirs} beside it is whole\n",
    )


def test_a_python_that_has_not_read_the_pth_file_is_told_apart_from_one_without_the_door(tmp_path: Path) -> None:
    status, said = ask(DOOR, hung=False)
    assert status == 1
    assert said.startswith(
        f"{ENTRYPOINT} starts nothing. tiltflow's door is installed, and this Python has not read tiltflow_door.pth"
    )
    theirs = write_stand_in(tmp_path)
    status, said = ask(DOOR, tmp_path, hung=False)
    assert status == 1
    assert said.startswith(f"{ENTRYPOINT} is not tiltflow's flow but that of {theirs}. tiltflow's door is installed, and")
    assert OWN_ENTRYPOINT in said


def test_without_the_door_the_message_says_how_to_install_it(tmp_path: Path) -> None:
    status, said = ask(tmp_path, hung=False)
    assert status == 1
    assert said.startswith(f"Nothing is installed under the name {ENTRYPOINT}: ")
    assert "pip install ./door" in said
    theirs = write_stand_in(tmp_path)
    status, said = ask(tmp_path, hung=False)
    assert status == 1
    assert said.startswith(f"{ENTRYPOINT} is not tiltflow's flow but that of {theirs}. Install tiltflow's door")


def test_a_door_of_before_in_the_place_of_the_other_packages_module_is_one_too(tmp_path: Path) -> None:
    theirs = write_stand_in(tmp_path)
    theirs.write_bytes(FLOW.read_bytes())  # as version 1.0 was installed
    status, said = ask(tmp_path, hung=False)
    assert status == 0
    assert said.startswith(f"{ENTRYPOINT} is tiltflow's BRT flow, by the door {theirs}")


def imported(name: str, *path: Path) -> str:
    """Return the file that a name is imported from, with the door hung."""
    program = f"{HUNG}import importlib.util as u; print(u.find_spec({name!r}).origin)"
    environment = {"PYTHONPATH": os.pathsep.join(map(str, (*path, DOOR)))}
    done = subprocess.run([sys.executable, "-S", "-c", program], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_one_module_of_the_name_is_tiltflows_and_every_other_stays_theirs(tmp_path: Path) -> None:
    brt = write_stand_in(tmp_path).parent
    (brt.parent / "__init__.py").write_text("")
    (brt / "config.py").touch()
    (brt.parent / "czi").mkdir()
    (brt.parent / "czi" / "flow.py").touch()
    assert imported("em_workflows.brt.flow", tmp_path) == str(FLOW)
    assert imported("em_workflows.brt.config", tmp_path) == str(brt / "config.py")
    assert imported("em_workflows.czi.flow", tmp_path) == str(brt.parent / "czi" / "flow.py")
    assert imported("em_workflows.brt.flow") == str(FLOW), "and without another package"


THEIRS = {
    "em_workflows/__init__.py": "",
    "em_workflows/brt/__init__.py": "",
    "em_workflows/brt/flow.py": "brt_flow = 'theirs'\n",
    "em_workflows/czi/flow.py": "czi_flow = 'theirs'\n",
}


def write_their_wheel(folder: Path) -> Path:
    """Build a distribution of another name that holds the package."""
    info, wheel = "image_portal_workflows-1.0.dist-info", folder / "image_portal_workflows-1.0-py3-none-any.whl"
    files = THEIRS | {
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: image-portal-workflows\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return wheel


def test_installing_and_uninstalling_the_door_leaves_the_other_package_whole(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT / "door")).build(directory=str(tmp_path), versions=["standard"])
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin" / "python"
    (site,) = (venv / "lib").glob("python*/site-packages")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    (site / "tiltflow.pth").write_text(f"{SOURCES}\n")  # as tiltflow's distribution does

    def pip(*arguments: str) -> None:
        command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(python), *arguments]
        subprocess.run(command, check=True, capture_output=True)

    def told() -> tuple[int, str, str]:
        door = subprocess.run(
            [python, "-m", "tiltflow_flows.door"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        program = (
            "import em_workflows.czi.flow as c, importlib.util as u; print(c.czi_flow, u.find_spec('em_workflows.brt.flow').origin)"
        )
        other = subprocess.run([python, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        assert door.stderr == other.stderr == ""
        return door.returncode, door.stdout, other.stdout.strip()

    def theirs_is_whole() -> bool:
        return {name: (site / name).read_text() for name in THEIRS} == THEIRS

    pip("install", "--no-index", str(write_their_wheel(tmp_path)))
    assert told()[0] == 1
    pip("install", "--no-index", "--no-deps", str(wheel))
    status, said, other = told()
    assert (status, other) == (0, f"theirs {site / 'tiltflow_door' / 'flow.py'}")
    assert f"the package {site / 'em_workflows'} beside it is whole" in said
    assert theirs_is_whole()
    pip("install", "--no-index", "--force-reinstall", str(tmp_path / "image_portal_workflows-1.0-py3-none-any.whl"))
    assert told()[0] == 0, "an update of the other package takes nothing away"
    pip("uninstall", "--yes", "tiltflow-door")
    status, said, other = told()
    assert (status, other) == (1, f"theirs {site / 'em_workflows' / 'brt' / 'flow.py'}")
    assert theirs_is_whole()
    assert not [path for path in site.rglob("*tiltflow_door*") if "__pycache__" not in path.parts]


def test_a_flow_whose_door_leads_elsewhere_says_so_in_its_log(
    prefect_server: None, share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = write_stand_in(tmp_path / "checkout")
    monkeypatch.syspath_prepend(tmp_path / "checkout")
    for path in (sys.meta_path, [each for each in sys.meta_path if each is not tiltflow_door.Door]):
        monkeypatch.setattr(sys, "meta_path", path)
        with pytest.raises(LocationError):
            brt_flow(0, 10, 0, 1, 0, 0, 20, 0, 50, file_share="lap", input_dir=".")
    said = [(line.levelname, line.getMessage()) for line in caplog.records if line.getMessage().startswith(ENTRYPOINT)]
    assert [level for level, _ in said] == ["INFO", "WARNING"]
    assert f"by the door {tiltflow_door.FLOW}" in said[0][1]
    assert f"is not tiltflow's flow but that of {theirs}" in said[1][1]
