"""The command: what it prints, what it leaves, and its exit status."""

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import pytest
import typer
from tests.listening import listening
from typer.main import get_group
from typer.testing import CliRunner

from tiltflow import cli, console, describe
from tiltflow.cli import app
from tiltflow.cli.application import usage_errors
from tiltflow.cli.command_list import COMMANDS, commands, find_command
from tiltflow.cli.options import Alignment, FolderOptions, takes_options
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import RunRecord, read_record
from tiltflow.version import __version__

GOOD, SOME_FAILED, USAGE, NONE_SUCCEEDED, NOT_TOLD, INTERRUPTED = 0, 1, 2, 3, 4, 130


@pytest.fixture
def tiltflow(tmp_path, monkeypatch):
    """Call the command in this process; scratch goes below the test's folder."""
    monkeypatch.setenv("TILTFLOW_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.delenv("TILTFLOW_TOKEN", raising=False)
    runner = CliRunner()
    return lambda *args: runner.invoke(app, [str(arg) for arg in args])


@pytest.fixture
def portal(request):
    """A real HTTP server that keeps what it is told, and answers with the status it is given."""
    told, status = [], getattr(request, "param", 200)

    def answer(heard):
        told.append((heard.headers["Authorization"], heard.body))
        return status

    with listening(answer) as host:
        yield f"http://{host}/api", told


def test_a_good_run_ends_with_status_0_products_and_a_callback_on_disk(tiltflow, small_series, tmp_path, fake_imod):
    result = tiltflow("run", small_series.parent, "--output", tmp_path / "out", "--engine", "imod")
    assert result.exit_code == GOOD, result.output
    assert "1 of 1 series succeeded" in result.output
    files = json.loads((tmp_path / "out" / "callback.json").read_text())["files"]
    assert files[0]["primaryFilePath"] == "B.st"
    paths = [asset["path"] for asset in files[0]["imageSet"][0]["assets"]]
    assert "B/tiltMov_B.mp4" in paths
    assert all((tmp_path / "out" / path).exists() for path in paths)


def test_some_failed_is_status_1_and_the_table_names_series_stage_and_reason(tiltflow, small_series, tmp_path, fake_imod):
    small_series.with_name("empty.mrc").touch()
    result = tiltflow("run", small_series.parent, "--output", tmp_path / "out", "--engine", "imod")
    assert result.exit_code == SOME_FAILED
    assert "1 of 2 series succeeded" in result.output
    assert "FAILED  empty.mrc  stage: read" in result.output
    assert "empty" in result.output.split("stage: read")[1]


def test_none_succeeded_is_status_3(tiltflow, small_series, tmp_path, fake_imod):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "abort")
    result = tiltflow("run", small_series.parent, "-o", tmp_path / "out", "--engine", "imod", "--fallback-engine", "off")
    assert result.exit_code == NONE_SUCCEEDED
    assert "NO SEED POINTS FOUND" in result.output


def test_a_series_that_the_fallback_engine_did_is_a_success(tiltflow, small_series, tmp_path, fake_imod):
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "abort")
    result = tiltflow("run", small_series.parent, "-o", tmp_path / "out")
    assert result.exit_code == 0
    record = read_record(tmp_path / "out" / "B" / "run.json")
    assert (record.engine.name, record.engine_attempts[0].outcome) == ("native", "failed")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--set", "comparam.tilt.tilt.THICKNES=100"], "THICKNESS"),
        (["--set", "no equals sign"], "no equals sign"),
        (["--template", "no_such_template"], "no_such_template"),
        (["--file", "no-such-file.st"], "no-such-file.st"),
        (["--two-surfaces", "7"], "7"),
        (["--callback-url", "ftp://portal"], "callback URL"),
        (["--tracking-method", "2", "--engine", "native"], "trackingMethod"),
    ],
)
def test_a_wrong_request_is_status_2_before_any_work(tiltflow, small_series, tmp_path, args, said):
    result = tiltflow("run", small_series.parent, "-o", tmp_path / "out", *args)
    assert result.exit_code == USAGE
    assert said in result.output
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_is_status_2_with_the_endings_that_were_looked_for(tiltflow, tmp_path):
    (tmp_path / "empty").mkdir()
    result = tiltflow("run", tmp_path / "empty", "-o", tmp_path / "out")
    assert result.exit_code == USAGE
    assert ".st" in result.output


def test_a_file_in_place_of_the_folder_is_explained(tiltflow, small_series, tmp_path):
    result = tiltflow("run", small_series, "-o", tmp_path / "out")
    assert result.exit_code == USAGE
    assert "--file B.st" in result.output


def test_the_portal_hears_running_the_result_and_success_with_the_token(tiltflow, small_series, tmp_path, fake_imod, portal):
    url, told = portal
    token = tmp_path / "token"
    token.write_text("s3cret-t0ken\n")
    result = tiltflow(
        "run", small_series.parent, "-o", tmp_path / "out", "--engine", "imod", "--callback-url", url, "--token-file", token
    )
    assert result.exit_code == GOOD, result.output
    assert [body.get("status", "files") for _, body in told] == ["running", "files", "success"]
    assert {header for header, _ in told} == {"Bearer s3cret-t0ken"}
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert b"s3cret-t0ken" not in path.read_bytes(), path
    assert "s3cret-t0ken" not in result.output


@pytest.mark.parametrize("portal", [403], indirect=True)
def test_a_portal_that_refuses_does_not_lose_the_result(tiltflow, small_series, tmp_path, fake_imod, monkeypatch, portal):
    monkeypatch.setenv("TILTFLOW_TOKEN", "abc")
    result = tiltflow("run", small_series.parent, "-o", tmp_path / "out", "--engine", "imod", "--callback-url", portal[0])
    assert result.exit_code == NOT_TOLD
    assert {header for header, _ in portal[1]} == {"Bearer abc"}
    assert [body.get("status", "files") for _, body in portal[1]] == ["running", "files", "error"]
    assert "the portal did not accept the callback" in result.output
    assert (tmp_path / "out" / "callback.json").is_file()


def test_a_misspelt_variable_is_warned_of_once(tiltflow, small_series, tmp_path, monkeypatch, portal):
    monkeypatch.setenv("TILTFLOW_TREADS", "2")
    small_series.write_text("no images")
    address, _ = portal
    result = tiltflow("run", small_series.parent, "--output", tmp_path / "out", "--callback-url", address)
    assert result.exit_code == NONE_SUCCEEDED
    assert result.output.count("TILTFLOW_TREADS") == 1


def test_the_log_as_json_is_an_object_a_line(small_series, tmp_path, fake_imod):
    small_series.with_name("C.st").write_bytes(b"no \xff images")
    command = [
        sys.executable,
        "-m",
        "tiltflow",
        "run",
        small_series.parent,
        "-o",
        tmp_path / "out",
        "--engine",
        "imod",
        "--log-json",
    ]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == SOME_FAILED
    log = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert {entry["level"] for entry in log} >= {"info"}
    assert all(entry.keys() >= {"time", "level", "logger", "message"} for entry in log)
    assert any(entry["message"].startswith("B: ") for entry in log)
    assert not [line for line in done.stderr.splitlines() if " INFO " in line]


def test_inspect_says_where_each_value_was_read(tiltflow, small_series):
    result = tiltflow("inspect", small_series)
    assert result.exit_code == GOOD
    lines = {line.split("  ")[0]: line for line in result.output.splitlines()}
    assert "-40 to 40, 5 values, step 20 deg" in lines["tilt angles"]
    assert "extended header" in lines["tilt angles"]
    assert "-8 deg" in lines["axis angle"]
    assert "title" in lines["axis angle"]


def test_inspect_of_a_text_file_explains_and_fails(tiltflow, tmp_path):
    path = tmp_path / "notes.mrc"
    path.write_text("these are my notes\n" * 100)
    result = tiltflow("inspect", path)
    assert result.exit_code == NONE_SUCCEEDED
    assert "notes.mrc" in result.output


def test_directives_shows_the_fate_of_each(tiltflow):
    result = tiltflow("directives", "plastic_brt", "--engine", "native")
    assert result.exit_code == GOOD, result.output
    line = next(line for line in result.output.splitlines() if line.startswith("runtime.AlignedStack.any.binByFactor"))
    assert "used" in line


def test_directives_names_the_nearest_known_name_of_an_unknown_one(tiltflow, tmp_path):
    path = tmp_path / "mine.adoc"
    path.write_text("comparam.tilt.tilt.THICKNES = 100\n")
    result = tiltflow("directives", path)
    assert result.exit_code == SOME_FAILED
    assert "unknown" in result.output
    assert "comparam.tilt.tilt.THICKNESS" in result.output


def test_help_and_version(tiltflow):
    assert "run" in tiltflow("--help").output
    assert tiltflow("--version").output.startswith("tiltflow ")


def test_a_command_that_takes_folder_options_receives_every_one_of_them():
    received, own = [], typer.Typer()

    @own.command()
    @takes_options
    def act(*, asked: FolderOptions, alignment: Alignment = None) -> None:
        received.append((asked, alignment))

    given = "in -o out --file f.st --gold 6 --template cryo_brt --set a.b=1 --engine native -j 2 --threads 3 --redo --workdir w"
    result = CliRunner().invoke(own, [*given.split(), "--per-series", "s.csv", "-v", "--alignment", "al"])
    assert result.exit_code == GOOD, result.output
    expected = FolderOptions(
        input_dir=Path("in"),
        output=Path("out"),
        file="f.st",
        parameters=BrtParameters(gold=6),
        template="cryo_brt",
        overrides=["a.b=1"],
        engine="native",
        jobs=2,
        threads=3,
        redo=True,
        workdir=Path("w"),
        per_series=Path("s.csv"),
        verbose=True,
    )
    assert received == [(expected, Path("al"))]
    assert expected.scratch == Path("w").absolute()
    assert CliRunner().invoke(own, ["in", "-o", "out"]).exit_code == GOOD
    assert received[1] == (FolderOptions(input_dir=Path("in"), output=Path("out"), parameters=BrtParameters()), None)


def test_help_imports_nothing_heavy():
    code = "import sys, tiltflow.cli; print([m for m in ('numba', 'scipy', 'av', 'matplotlib', 'prefect') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_that_is_ended_leaves_a_record_no_scratch_and_can_go_on(tiltflow, small_series, tmp_path, fake_imod):
    shutil.copy(small_series, small_series.with_name("C.st"))
    program = tmp_path / "imod" / "bin" / "batchruntomo"
    good = program.read_text()
    program.write_text(f"#!/bin/sh\necho Reached step 1\nkill -TERM {os.getpid()}\nsleep 60\n")
    command = ["run", small_series.parent, "-o", tmp_path / "out", "--engine", "imod"]
    before = signal.getsignal(signal.SIGTERM)
    ended = tiltflow(*command)
    assert ended.exit_code == INTERRUPTED, ended.output
    assert "interrupted" in ended.output
    assert "interrupted" in (read_record(tmp_path / "out" / "B" / "run.json").message or "")
    assert not list((tmp_path / "scratch").iterdir())
    assert signal.getsignal(signal.SIGTERM) is before
    program.write_text(good)
    done = tiltflow(*command)
    assert done.exit_code == GOOD, done.output
    assert "2 of 2 series succeeded" in done.output


def test_two_axes_in_a_folder_are_both_done_and_the_run_says_that_they_look_like_a_pair(
    tiltflow, write_series, tmp_path, fake_imod
):
    (tmp_path / "in").mkdir()
    for name in ("xa.st", "xb.st", "y.st"):
        write_series(tmp_path / "in" / name)
    result = tiltflow("run", tmp_path / "in", "-o", tmp_path / "out", "--engine", "imod")
    assert result.exit_code == GOOD, result.output
    remark = "xa.st and xb.st look like the two axes of one specimen: each is done as a series of its own"
    assert remark in result.output.replace("\n", " ")
    assert json.loads((tmp_path / "out" / "run.json").read_text())["remarks"][0].startswith(remark)
    assert remark in (tmp_path / "out" / "index.html").read_text()
    for name, said in (("xa", True), ("xb", True), ("y", False)):
        assert (tmp_path / "out" / name / f"{name}_rec.mrc").is_file()
        assert (remark in (tmp_path / "out" / name / f"{name}.log").read_text()) == said


def test_a_table_in_the_folder_gives_settings_of_single_series_and_like_repeats_them(tiltflow, small_series, tmp_path, fake_imod):
    folder, out = small_series.parent, tmp_path / "out"
    shutil.copy(small_series, folder / "C.st")
    shutil.copy(small_series, folder / "B_rec.mrc")
    (folder / "series.csv").write_text("name,thickness,exclude\nB,60,1 2\nC2,70,\n")
    result = tiltflow("run", folder, "--output", out, "--engine", "imod", "--thickness", "50")
    assert result.exit_code == GOOD, result.output
    said = result.output.replace("\n", " ")
    assert "B_rec.mrc is left out" in said
    assert "there is no series 'C2'. Did you mean 'C'?" in said
    recipes = {name: read_record(out / name / "run.json").recipe for name in "BC"}
    assert {name: recipe.parameters["thickness"] for name, recipe in recipes.items()} == {"B": 60, "C": 50}
    assert "setupset.copyarg.skip = 1,2" in (out / "B" / "B.adoc").read_text()
    assert "setupset.copyarg.skip = 1,2" not in (out / "C" / "C.adoc").read_text()
    remarks = json.loads((out / "run.json").read_text())["remarks"]
    assert [remark.split(":")[0].split(" is ")[0].rpartition("/")[2] for remark in remarks] == ["B_rec.mrc", "series.csv"]

    again = tiltflow("run", folder, "--output", tmp_path / "again", "--like", out / "run.json")
    assert again.exit_code == GOOD, again.output
    assert "series.csv is not read" in again.output
    for name, recipe in recipes.items():
        repeated = read_record(tmp_path / "again" / name / "run.json").recipe
        assert (repeated.digest, repeated.requested) == (recipe.digest, recipe.requested)
    kept = tiltflow("run", folder, "--output", out, "--like", out / "run.json")
    assert kept.output.count("already done") == 2
    one = tiltflow("run", folder, "--output", tmp_path / "one", "--like", out / "B" / "run.json", "--file", "C.st")
    assert one.exit_code == GOOD, one.output
    assert read_record(tmp_path / "one" / "C" / "run.json").recipe.digest == recipes["B"].digest


def test_a_remark_is_one_line_where_nobody_set_a_width(small_series, tmp_path):
    folder = small_series.parent
    shutil.copy(small_series, folder / "B_rec.mrc")
    (folder / "series.csv").write_text("name,thickness\nB,60\nC2,70\n")
    command = [sys.executable, "-m", "tiltflow", "run", folder, "--output", "/proc/x"]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=os.environ | {"COLUMNS": "40"})
    assert [
        line
        for line in told.stderr.splitlines()
        if line.endswith("to process it, give it by its name") and line.startswith("! B_rec.mrc")
    ]


@pytest.mark.parametrize(
    "option", [("--thickness", 50), ("--template", "cryo_brt"), ("--set", "a.b=1"), ("--engine", "imod"), ("--per-series", "x.csv")]
)
def test_what_the_record_decides_cannot_be_given_beside_like(tiltflow, small_series, tmp_path, option):
    result = tiltflow("run", small_series.parent, "--output", tmp_path / "out", "--like", tmp_path / "run.json", *option)
    assert result.exit_code == USAGE
    assert f"{option[0]} and --like cannot both be given" in result.output


def test_an_alignment_that_like_cannot_find_is_status_2_and_one_given_beside_it_is_checked(tiltflow, small_series, tmp_path):
    recorded = tmp_path / "run.json"
    asked = make_recipe(alignment=tmp_path / "gone")
    recorded.write_text(
        RunRecord(
            tiltflow=__version__,
            started=datetime.now(UTC),
            template=asked.template,
            digest=asked.digest,
            request=describe.request(asked),
        ).model_dump_json(by_alias=True)
    )
    repeat = ("run", small_series.parent, "--output", tmp_path / "out", "--like", recorded)
    result = tiltflow(*repeat)
    assert result.exit_code == USAGE
    assert "which is not there: give it by --alignment" in " ".join(result.output.split())
    result = tiltflow(*repeat, "--alignment", tmp_path / "nowhere")
    assert result.exit_code == USAGE
    assert "there is no such file or folder of alignments" in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
    (tmp_path / "al").mkdir()
    assert tiltflow(*repeat, "--alignment", tmp_path / "al").exit_code == NONE_SUCCEEDED
    record = read_record(tmp_path / "out" / "B" / "run.json")
    assert record.recipe.request.alignment == str(tmp_path / "al")
    assert "has no alignment of B" in record.failure.reason


def test_a_mistake_in_the_table_is_status_2_with_file_and_line(tiltflow, small_series, tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text("name,gold\nB,many\n")
    result = tiltflow("run", small_series.parent, "--output", tmp_path / "out", "--per-series", table)
    assert result.exit_code == USAGE
    assert "mine.csv:2, gold: 'many'; give a diameter in nm" in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("place", "why"), [("file", "it is a file"), ("file/in", "Not a directory")])
def test_a_place_that_cannot_hold_results_is_refused_before_anything_is_planned(tiltflow, small_series, tmp_path, place, why):
    (tmp_path / "file").write_text("mine")
    result = tiltflow("run", small_series.parent, "--output", tmp_path / place)
    assert result.exit_code == USAGE
    refused = (
        f"error: Nothing can be written to {tmp_path / place}, which is to hold the results ({why}); give a folder that can be"
    )
    assert [line for line in result.output.splitlines() if line] == [f"{refused} written to."]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("command", ["run", "products"])
def test_the_help_tells_every_exit_status(tiltflow, command):
    told = " ".join(tiltflow(command, "--help").output.split()).partition("Exit status:")[2]
    assert all(f" {status} " in told for status in (GOOD, SOME_FAILED, USAGE, NONE_SUCCEEDED, NOT_TOLD, INTERRUPTED))


def test_a_report_that_was_not_written_is_not_named(capsys, tmp_path):
    console.show_places(tmp_path, tmp_path / "index.html")
    console.show_places(tmp_path, None)
    written, not_written = capsys.readouterr().out.splitlines()
    assert written == f"results: {tmp_path}, report: {tmp_path / 'index.html'}"
    assert "index.html" not in not_written
    assert "not written" in not_written


def test_a_request_that_is_interrupted_says_so(capfd):
    with pytest.raises(typer.Exit) as ended, usage_errors():
        raise KeyboardInterrupt
    assert ended.value.exit_code == INTERRUPTED
    assert capfd.readouterr().err == "interrupted\n"


def test_the_list_of_commands_says_of_each_what_its_own_help_says_first():
    said = {name: find_command(name).help.split("\n\n")[0].replace("\n", " ") for name in COMMANDS}
    assert said == {name: listed.summary for name, listed in COMMANDS.items()}


def test_every_command_is_in_the_list():
    for module in (Path(cli.__file__).parent).glob("*_command*.py"):
        import_module(f"tiltflow.cli.{module.stem}")
    assert set(get_group(commands).commands) == set(COMMANDS)


def test_the_help_of_all_commands_imports_none_of_them():
    script = "import sys; sys.argv[1:] = ['--help']; from tiltflow.cli import app; app(standalone_mode=False); print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {f"tiltflow.cli.{listed.module}" for listed in COMMANDS.values()}.intersection(imported)
    assert not {"numpy", "tiltflow.recipe", "importlib.metadata"}.intersection(imported)
