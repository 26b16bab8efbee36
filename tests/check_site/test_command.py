"""`tiltflow check-site`: its table, its JSON and its exit status."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tiltflow.check_site import all_checks
from tiltflow.check_site.finding import Check, failed, good, note
from tiltflow.cli import app
from tiltflow.settings import PREFIX

CHECKS = (
    Check("scratch", lambda _site: good("/lscratch, 900 GB free")),
    Check("portal", lambda site: note(f"not asked: {site.callback_url}")),
)
BAD = Check("share lab", lambda _site: failed("/mnt/lab is no folder", "mount it"))


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(variable)


def ask(*options: str, checks: tuple[Check, ...], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.setattr(all_checks, "all_checks", lambda _settings: checks)
    done = CliRunner().invoke(app, ["check-site", *options])
    return done.exit_code, done.stdout


def test_a_site_that_is_ready_is_a_table_and_status_0(monkeypatch: pytest.MonkeyPatch) -> None:
    status, said = ask("--callback-url", "https://portal.example", checks=CHECKS, monkeypatch=monkeypatch)
    assert status == 0
    lines = [line.split() for line in said.splitlines()]
    assert lines[0] == ["check", "state", "found", "what", "to", "do"]
    assert lines[1][:2] == ["scratch", "ok"]
    assert lines[2] == ["portal", "note", "not", "asked:", "https://portal.example"]
    assert said.endswith("\nnothing has to be put right\n")


def test_one_failure_is_status_1_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    status, said = ask(checks=(*CHECKS, BAD), monkeypatch=monkeypatch)
    assert status == 1
    assert "mount it" in said
    assert said.endswith("\n1 of 3 checks failed: share lab\n")


@pytest.mark.parametrize(("checks", "status"), [(CHECKS, 0), ((*CHECKS, BAD), 1)])
def test_json_holds_the_same(checks: tuple[Check, ...], status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, said = ask("--json", checks=checks, monkeypatch=monkeypatch)
    told = json.loads(said)
    assert (ended, told["ready"]) == (status, status == 0)
    assert told["checks"][0] == {"check": "scratch", "state": "ok", "found": "/lscratch, 900 GB free", "remedy": ""}
    assert [row["state"] for row in told["checks"]] == ["ok", "note", "failed"][: len(checks)]
    assert {"tiltflow", "commit"} <= set(told)


def test_settings_that_cannot_be_read_are_a_check_that_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TILTFLOW_SETTINGS", str(tmp_path / "absent.toml"))
    status, said = ask("--json", checks=CHECKS, monkeypatch=monkeypatch)
    version, settings = json.loads(said)["checks"]
    assert (status, version["state"], settings["state"]) == (1, "ok", "failed")
    assert "absent.toml" in settings["found"]
