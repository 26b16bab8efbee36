"""The files of `deploy/`, as far as they can be checked without a site."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tiltflow.settings import FILE_VARIABLE, PREFIX, describe_settings

DEPLOY = Path(__file__).parents[1] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.*"))


def test_the_environment_file_names_every_setting_and_nothing_else() -> None:
    text = (DEPLOY / "tiltflow.env").read_text()
    named = re.findall(rf"^#?({PREFIX}\w+)=", text, re.MULTILINE)
    assert sorted(named) == sorted([FILE_VARIABLE, *(setting.variable for setting in describe_settings())])
    for line in text.splitlines():
        assert re.fullmatch(r"|#.*|[A-Z_]+=\S*", line), "systemd and containers read only NAME=value"


def test_every_default_in_the_environment_file_has_its_meaning_above_it() -> None:
    blocks = (DEPLOY / "tiltflow.env").read_text().split("\n\n")
    for setting in describe_settings():
        (block,) = [block for block in blocks if f"\n#{setting.variable}={setting.default}\n" in f"{block}\n"]
        assert block.startswith("# ")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_understands_a_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    here = tmp_path / unit.name
    here.write_text(
        unit.read_text().replace("/opt/tiltflow/bin/prefect ", "/bin/true ").replace("/opt/tiltflow/bin/tiltflow ", "/bin/true ")
    )
    done = subprocess.run(["systemd-analyze", "verify", str(here)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_the_worker_finishes_its_runs_and_comes_back_by_itself() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read(DEPLOY / "systemd" / "tiltflow-worker.service")
    service = parser["Service"]
    assert (service["KillMode"], service["Restart"], service["TimeoutStopSec"]) == ("mixed", "always", "30min")
    assert service["EnvironmentFile"] == "/etc/tiltflow/tiltflow.env"
    pool = re.search(r"--pool (\S+) --type process", service["ExecStart"])
    assert pool is not None
    assert f"name: {pool[1]}\n" in (DEPLOY / "prefect.yaml").read_text().partition("work_pool:")[2]


def test_everything_that_the_container_copies_is_there() -> None:
    text = (DEPLOY / "Containerfile").read_text().replace("\\\n", " ")
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert {"src", "door", "pyproject.toml"} <= set(copied)
    assert [name for name in copied if name != ".git" and not (DEPLOY.parent / name).exists()] == []
    user = text.rindex("\nUSER tiltflow\n")
    assert text.index("useradd") < user < text.index("\nCMD "), "the worker is not root"
    assert "--require-hashes -r requirements-dev.lock" in text
