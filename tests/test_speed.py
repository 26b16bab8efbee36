"""The instruments of the speed: what a process cost, how a run uses cores, the history of ratios, the facility-year."""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
FAKE = ROOT / "tests" / "engines" / "imod" / "fake_batchruntomo.py"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.fixture
def figures_folder(tmp_path, monkeypatch):
    import record
    from speed import history

    monkeypatch.setattr(record, "FOLDER", tmp_path / "figures")
    monkeypatch.setattr(history, "PICTURE", tmp_path / "history.svg")
    return tmp_path / "figures"


BURN = "import time\nwhile time.process_time() < 0.3: pass\n"


def test_the_cost_of_a_process_holds_the_cpu_time_of_its_children_and_what_it_wrote(tmp_path):
    from speed.processes import cost_of

    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}]); open('f', 'wb').write(bytes(2_000_000))"
    cost = cost_of([sys.executable, "-c", child], os.environ, tmp_path)
    assert cost.cpu > 0.3
    assert cost.wall > 0.3
    assert cost.resident_mb > 1
    assert cost.written_mb == pytest.approx(2.0, abs=0.1) or cost.written_mb == 0  # where the system does not tell


def test_a_command_that_fails_ends_the_benchmark_with_its_last_words():
    from speed.processes import cost_of

    with pytest.raises(SystemExit, match=r"(?s)ended with 3:.*no such series"):
        cost_of([sys.executable, "-c", "import sys; print('no such series'); sys.exit(3)"], os.environ)


def test_runs_take_turns_and_the_first_turn_is_not_counted():
    from speed.processes import Cost, alternating, median

    order = []

    def run(name):
        order.append(name)
        return Cost(float(len(order)), 1.0, 0.5, 10.0)

    costs = alternating({name: lambda name=name: run(name) for name in "ab"}, 2)
    assert "".join(order) == "ababab"
    assert [cost.wall for cost in costs["a"]] == [3.0, 5.0]
    assert median(costs["b"]).wall == 5.0
    assert median(costs["b"]).cores_busy == pytest.approx(0.3)


def test_the_environment_of_a_run_has_its_checkout_and_its_own_caches(tmp_path, monkeypatch):
    from speed.processes import with_caches

    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    environment = with_caches(tmp_path, Path("/elsewhere"))
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    assert environment["PYTHONPATH"] == "/elsewhere/src"
    assert environment["OPENBLAS_NUM_THREADS"] == "1"
    assert {environment[name] for name in ("NUMBA_CACHE_DIR", "PYTHONPYCACHEPREFIX")} == {f"{tmp_path}/numba", f"{tmp_path}/python"}


@pytest.mark.parametrize(
    ("threads", "wall_1", "wall_n", "share"),
    [
        (2, 2.0, 2.0, 1.0),
        (2, 2.0, 1.0, 0.0),
        (2, 2.0, 1.5, 0.5),
        (4, 4.0, 1.75, 0.25),
        (2, 2.0, 2.4, 1.0),
        (2, 2.0, 0.8, 0.0),
        (2, 0.0, 0.0, 1.0),
    ],
)
def test_the_serial_share_follows_from_two_times(threads, wall_1, wall_n, share):
    from scaling import Stage

    stage = Stage("s", wall_1, wall_1, wall_n, wall_n)
    assert stage.serial_share(threads) == pytest.approx(share)
    assert stage.wall_on(1, threads) == pytest.approx(wall_1)
    assert stage.wall_on(10**6, threads) == pytest.approx(share * wall_1, abs=1e-4)


def test_short_stages_are_put_together_and_nothing_is_lost():
    from scaling import Stage, merged, total

    stages = [Stage("long", 10.0, 9.0, 8.0, 9.5), *(Stage(f"short {n}", 0.05, 0.04, 0.03, 0.04) for n in range(3))]
    rows = merged(stages)
    assert [row.name for row in rows] == ["long", "all others"]
    assert total("", rows).wall_1 == pytest.approx(total("", stages).wall_1)
    assert rows[1].cpu_n == pytest.approx(0.12)


LAST = [
    {"version": "0.1.0", "ratios": {"cpu_of_imod": {"value": 0.8, "case": "c"}}},
    {"version": "0.2.0", "ratios": {"gold_cpu": {"value": 0.4, "case": "c"}}},
]


@pytest.mark.parametrize(
    ("ratios", "case", "told"),
    [
        ({"gold_cpu": 0.47}, "c", ["gold_cpu is 0.470, and was 0.400 at version 0.2.0: 17 % slower"]),
        ({"gold_cpu": 0.45}, "c", []),
        ({"gold_cpu": 0.2}, "c", []),
        ({"gold_cpu": 0.47}, "another", []),
        ({"gold_wall": 9.0}, "c", []),
        ({"cpu_of_imod": 1.0}, "c", ["cpu_of_imod is 1.000, and was 0.800 at version 0.1.0: 25 % slower"]),
    ],
)
def test_a_ratio_is_told_that_is_much_worse_than_the_last_of_its_case(ratios, case, told):
    from speed.history import regressions

    assert list(regressions(ratios, case, LAST)) == [f"WARNING: {each}" for each in told]


def test_the_history_gathers_the_ratios_of_a_version_and_draws_them(figures_folder, capsys):
    from speed.history import PICTURE, keep_release, read_history, tell_regressions

    keep_release("0.1.0", {"wall_of_imod": 0.35}, "c")
    keep_release("0.2.0", {"gold_wall": 0.4}, "c")
    keep_release("0.2.0", {"gold_cpu": 0.46}, "c")
    assert [(release["version"], len(release["ratios"])) for release in read_history()] == [("0.1.0", 1), ("0.2.0", 2)]
    told = json.loads((figures_folder / "speed_history.json").read_text())
    assert told["table"][-1].startswith("| 0.2.0 | ")
    assert "| 0.40 | 0.46 |" in told["table"][-1]
    assert PICTURE.read_text().count("<circle") == 3
    tell_regressions({"gold_cpu": 0.6}, "c")
    assert "WARNING: gold_cpu is 0.600, and was 0.460 at version 0.2.0: 30 % slower" in capsys.readouterr().out
    tell_regressions({"gold_cpu": 0.46}, "c")
    assert "nothing is more than 15 % slower" in capsys.readouterr().out
    tell_regressions({"gold_cpu": 0.46}, "another")
    assert "no entry of this case" in capsys.readouterr().out


def test_the_picture_and_the_table_of_the_documentation_are_those_of_the_history():
    from speed.history import PICTURE, plot, read_history, table

    releases = read_history()
    assert PICTURE.read_text() == plot(releases)
    assert json.loads((ROOT / "docs" / "figures" / "speed_history.json").read_text())["table"] == table(releases)


def test_an_empty_application_has_as_many_commands(tmp_path):
    from speed.processes import cost_of
    from speed.start_up import empty_application

    folder = empty_application(tmp_path, 3)
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    for command in ("command-0", "command-2"):
        cost_of([sys.executable, "-m", "empty_application", command], environment)
    with pytest.raises(SystemExit, match="command-3"):
        cost_of([sys.executable, "-m", "empty_application", "command-3"], environment)


def test_without_imod_the_comparison_says_what_is_missing(tmp_path, monkeypatch, capsys):
    import record
    from speed import beside_imod
    from speed.processes import Case

    monkeypatch.setenv("PATH", str(tmp_path))
    assert beside_imod.compare(tmp_path / "s.st", Case(), 1, tmp_path / "work", record.Figures("f")) == {}
    assert "not run, as these are missing: batchruntomo, newstack" in capsys.readouterr().out


@pytest.mark.parametrize("names", ["good", "old-names"])
def test_batchruntomo_is_given_the_directives_of_the_case(tmp_path, monkeypatch, names):
    from speed import beside_imod
    from speed.processes import Case
    from tiltflow.formats.mrc import MrcWriter

    (tmp_path / "bin").mkdir()
    shutil.copy(FAKE, tmp_path / "bin" / "batchruntomo")
    program = tmp_path / "bin" / "batchruntomo"
    program.write_text(program.read_text().replace("#!/usr/bin/env python3", f"#!{sys.executable}", 1))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_BATCHRUNTOMO", names)
    source = tmp_path / "gold.st"
    with MrcWriter(source, (5, 16, 16), np.int16, pixel_size_angstrom=10.0) as out:
        out.write(np.zeros((5, 16, 16), np.int16))
    work = tmp_path / "work"
    beside_imod.batchruntomo(source, work, Case(16, 5, thickness=140, binning=2, threads=1))
    directives = (work / "gold.adoc").read_text()
    assert "runtime.AlignedStack.any.binByFactor=2" in directives.replace(" ", "")
    assert "140" in directives
    assert beside_imod._one_of(work, "gold", beside_imod.ALIGNED).is_file()
    assert beside_imod._one_of(work, "gold", beside_imod.VOLUME).is_file()


def test_a_method_that_does_not_exist_is_refused():
    from speed.versions import known_methods

    assert known_methods("gold,markerless") == ["gold", "markerless"]
    with pytest.raises(argparse.ArgumentTypeError, match="no such method: beads; there are gold, patches, markerless"):
        known_methods("gold,beads")


def test_more_machines_shorten_the_waiting_and_the_catching_up():
    from facility_year import Site, catching_up, finished

    site = Site(10, 40)
    waits = [np.subtract(*finished(site, 120.0, machines).T[::-1]) for machines in (1, 2, 4)]
    assert all((each >= 120.0 - 1e-6).all() for each in waits)
    assert waits[0].mean() > waits[1].mean() >= waits[2].mean()
    assert len(waits[0]) == 10 * 40 * 30
    assert catching_up(site, 120.0, 1) > catching_up(site, 120.0, 2) > 0


def test_what_stays_on_disk_is_told_apart(tmp_path):
    from facility_year import sizes

    (tmp_path / "B_rec.zarr").mkdir()
    for name, count in {"B_rec.mrc": 3, "B_rec.zarr/.zattrs.json": 2, "ave_B.mrc": 1, "report.html": 4, "run.json": 1}.items():
        (tmp_path / name).write_bytes(bytes(count * 1_000_000))
    assert sizes(tmp_path) == {"volumes": 3.0, "products": 3.0, "pages": 5.0}


@pytest.mark.whole
def test_the_stages_of_a_process_make_up_its_time_and_a_second_series_compiles_nothing(tmp_path):
    from scaling import in_a_process, stages_of
    from speed.processes import Case, simulated

    case = Case(256, 21)
    sources = [simulated(tmp_path / f"s{seed}.st", case, seed) for seed in (1, 2)]
    (first, second), wall = in_a_process(sources, tmp_path / "out", tmp_path / "cache", case)
    assert first.compiled > 0
    assert second.compiled == 0
    assert {"coarse alignment", "align: gold", "reconstruction", "report"} <= {name for name, *_ in second.stages}
    assert 0 < wall - first.wall - second.wall < 10.0
    assert [stage.name for stage in stages_of([second], [second])] == [name for name, *_ in second.stages]


def test_a_flame_graph_shows_what_takes_most_and_leaves_the_rest_out():
    from flame import Node, drawn, largest

    tree = Node()
    for names, weight in ((["a.run", "b.solve"], 6.0), (["a.run", "b.solve", "b.solve"], 2.0), (["a.run"], 1.9), (["c.rare"], 0.1)):
        tree.add(names, weight)
    assert tree.samples == pytest.approx(10)
    assert largest(tree, 2) == [("a.run", pytest.approx(0.99)), ("b.solve", pytest.approx(0.8))]
    picture = drawn(Node.from_json(json.loads(json.dumps(tree.as_json()))), 0.05, "a & b")
    assert picture.count("<rect") == 3
    assert "a &amp; b" in picture
    assert "c.rare" not in picture
    assert ">b.solve: 80.0%<" in picture
