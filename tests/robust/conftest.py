"""What the attacks share: a warm process, an undisturbed run to compare with, and the table of what was tried and survived."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.robust.runs import NAME, Clean, Place, Warm, undisturbed, write_small_series
from tests.robust.shim import compile_shim
from tests.robust.tally import TALLY, Count, Tally

FIGURES = Path(__file__).parents[2] / "docs" / "figures" / "robust.json"
_KINDS: dict[str, str] = {}
"""Tests anywhere in the house that are attacks themselves, and their kinds."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the table be written for the documentation."""
    parser.addoption("--record-robust", action="store_true", help="write the table of the attacks to docs/figures")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Note which tests are attacks themselves."""
    for item in items:
        mark = item.get_closest_marker("attack")
        if mark is not None:
            _KINDS[item.nodeid] = mark.args[0]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, and write it where that was asked for."""
    tally = Tally(dict(TALLY.kinds))
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            if report.nodeid in _KINDS and report.when == "call":
                count = tally.kinds.setdefault(_KINDS[report.nodeid], Count())
                count.tried, count.survived = count.tried + 1, count.survived + (outcome == "passed")
    if not tally.kinds:
        return
    terminalreporter.section("attacks: kind / tried / survived")
    for row in tally.rows():
        terminalreporter.write_line(row)
    if config.getoption("--record-robust"):
        from benchmarks.record import machine

        told = {
            "command": f'python -m pytest -m "{config.getoption("-m")}" tests/robust tests',
            "date": datetime.now(UTC).date().isoformat(),
            "machine": machine(),
            "figures": {
                "tried": {"value": str(sum(count.tried for count in tally.kinds.values())), "unit": "attacks"},
                "survived": {"value": str(sum(count.survived for count in tally.kinds.values())), "unit": "of them"},
            },
            "table": tally.rows(),
        }
        FIGURES.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@pytest.fixture(
    params=[
        pytest.param(False, marks=pytest.mark.whole, id="a-sample"),
        pytest.param(True, marks=pytest.mark.robust, id="all"),
    ]
)
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether all is tried, which takes minutes, or a sample of it."""
    return bool(request.param)


@pytest.fixture
def tally() -> Tally:
    """Return the table to count in."""
    return TALLY


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Return the shim; None where there is no compiler, or no LD_PRELOAD."""
    return compile_shim(tmp_path_factory.mktemp("shim")) if sys.platform == "linux" else None


@pytest.fixture(scope="session")
def any_warm(shim: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Return a warm process, with the shim if there is one."""
    warm = Warm(shim, tmp_path_factory.mktemp("warm"))
    yield warm
    warm.close()


@pytest.fixture
def warm(any_warm: Warm) -> Warm:
    """Return a warm process with the shim."""
    if any_warm.shim is None:
        pytest.skip("needs a C compiler (cc) for the shim between the program and the system")
    return any_warm


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Place]:
    """Return two places, each with the same series."""
    made = []
    for _ in range(2):
        place = Place(tmp_path_factory.mktemp("place"))
        place.input.mkdir()
        write_small_series(place.input / f"{NAME}.st")
        made.append(place)
    return made[0], made[1]


@pytest.fixture(scope="session")
def clean(any_warm: Warm, places: tuple[Place, Place]) -> tuple[Clean, Clean]:
    """Return what an undisturbed run leaves in each place."""
    first, second = (undisturbed(any_warm, place) for place in places)
    named = f"{NAME}/{NAME}.adoc"  # holds the paths
    differences = {name for name, _ in first.contents.items() ^ second.contents.items()}
    assert differences == {named}, "a run must give the same files wherever it is"
    return first, second
