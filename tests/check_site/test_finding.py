"""How checks are run: one that raises has failed, and the others go on."""

from __future__ import annotations

import importlib
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tiltflow.check_site.all_checks import GROUP, added, all_checks
from tiltflow.check_site.finding import Check, Finding, Site, State, good, run_checks
from tiltflow.errors import ResourceError
from tiltflow.settings import load_settings


def raise_expected(_site: Site) -> Finding:
    raise ResourceError("No room for scratch in /x.")


def raise_unexpected(_site: Site) -> Finding:
    return good(str(1 / 0))


def test_a_check_that_raises_has_failed_and_is_no_traceback() -> None:
    checks = [Check("a", raise_expected), Check("b", raise_unexpected), Check("c", lambda _site: good("fine"))]
    done = list(run_checks(checks, Site(load_settings())))
    assert [(one.name, one.finding.state) for one in done] == [("a", State.FAILED), ("b", State.FAILED), ("c", State.GOOD)]
    assert done[0].finding.found == "No room for scratch in /x."
    assert done[1].finding.found == "the check itself failed (ZeroDivisionError: division by zero)"
    assert all(one.finding.remedy for one in done[:2])


def test_there_is_a_check_for_every_share_and_every_engine(tmp_path: Path) -> None:
    names = [check.name for check in all_checks(load_settings(mounts={"lab": tmp_path, "qa": tmp_path}))]
    assert {"share lab", "share qa", "engine imod", "engine native", "self-test imod", "self-test native"} <= set(names)
    assert len(set(names)) == len(names)


def test_the_checks_of_prefect_are_found_by_their_entry_point() -> None:
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        (value,) = tomllib.load(file)["project"]["entry-points"][GROUP].values()
    pytest.importorskip("prefect", reason="needs the extra [prefect]")
    names = [check.name for check in added(EntryPoint("Prefect", value, GROUP))]
    assert names == ["door", "Prefect packages", "Prefect server", "Prefect heartbeats", "Slurm", "templates"]


def test_checks_of_a_package_that_cannot_be_imported_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_checks.py").write_text("import no_such_prefect\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    (check,) = added(EntryPoint("Theirs", "their_checks:CHECKS", GROUP))
    finding = check.look(Site(load_settings()))
    assert (check.name, finding.state) == ("Theirs", State.NOTE)
    assert "No module named 'no_such_prefect'" in finding.found
