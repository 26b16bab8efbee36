"""Whole commands: exit status, what is printed, what lies in the folder, and what a failure leaves."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tiltflow.batchruntomo.data_set_request import Steps, within
from tiltflow.batchruntomo.run import site_of
from tiltflow.cli import app
from tiltflow.formats.edf import parse_edf
from tiltflow.formats.mrc import MrcWriter, open_mrc
from tiltflow.formats.transforms import read_transforms
from tiltflow.recipe import draft_recipe
from tiltflow.record import read_record
from tiltflow.settings import load_settings

NAME = "TS_01"
GOLD = "setupset.copyarg.rotation = -8\nsetupset.copyarg.pixel = 1\nsetupset.copyarg.gold = 10\n"
VOLUME = f"{GOLD}comparam.tilt.tilt.THICKNESS = 60\nruntime.AlignedStack.any.binByFactor = 2\n"


@pytest.fixture
def adoc(tmp_path):
    """Writes a directive file."""

    def write(text: str, name: str = "batch.adoc") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture(autouse=True)
def bare_settings(monkeypatch):
    monkeypatch.delenv("TILTFLOW_SETTINGS", raising=False)


def test_set_up_alone_writes_angles_and_the_data_file(call, adoc, folder):
    angles = (folder / f"{NAME}.rawtlt").read_bytes()
    outcome = call("-di", adoc(GOLD), "-cu", folder, "-ro", NAME, "-en", 0)
    assert outcome.status == 0
    assert f"Completed dataset {NAME} through step 0" in outcome.lines
    assert (folder / f"{NAME}.rawtlt").read_bytes() == angles
    assert parse_edf((folder / f"{NAME}.edf").read_text())["Setup.RawImageStackExt"] == "mrc"
    assert not (folder / f"{NAME}.xf").exists()


def test_ending_before_the_alignment_says_that_nothing_is_made(call, adoc, folder):
    outcome = call("-di", adoc(GOLD), "-cu", folder, "-ro", NAME, "-en", 3)
    assert outcome.status == 0
    assert "nothing but the set-up was done" in outcome.text


def test_step_5_ends_after_the_alignment_like_step_6(call, adoc, folder):
    outcome = call("-di", adoc(GOLD), "-cu", folder, "-ro", NAME, "-en", 5, "-cp", 1)
    assert outcome.status == 0
    assert (folder / f"{NAME}.xf").is_file()
    assert f"Completed dataset {NAME} through step 5" in outcome.lines


def test_a_whole_run_makes_the_volume_and_a_later_one_goes_on_from_the_alignment(call, adoc, folder):
    file = adoc(f"{VOLUME}setupset.copyarg.skip = 2,4\nsetupset.copyarg.name = {NAME}\nsetupset.datasetDirectory = {folder}\n")
    outcome = call(file, "-cp", 2)
    assert outcome.status == 0, outcome.text
    assert outcome.lines[-2:] == [f"Completed dataset {NAME}", "SUCCESSFULLY COMPLETED"]
    assert open_mrc(folder / f"{NAME}_ali.mrc").shape == (21, 96, 96)
    assert open_mrc(folder / f"{NAME}_rec.mrc").shape == (30, 96, 96)
    edf = folder / f"{NAME}.edf"
    assert parse_edf(edf.read_text())["Setup.AxisA.ExcludeProjections"] == "2,4"
    first, aligned = (folder / f"{NAME}.xf").read_bytes(), np.asarray(open_mrc(folder / f"{NAME}_ali.mrc")[10])
    log = (folder / "align.log").read_bytes()
    again = call(file, "-st", 8, "-en", 14)
    assert again.status == 0, again.text
    assert "Using the existing alignment" in again.text
    assert ((folder / f"{NAME}.xf").read_bytes(), (folder / "align.log").read_bytes()) == (first, log)
    np.testing.assert_allclose(open_mrc(folder / f"{NAME}_ali.mrc")[10], aligned, atol=2)
    full, trimmed = open_mrc(folder / f"{NAME}_full_rec.mrc"), open_mrc(folder / f"{NAME}_rec.mrc")
    assert full.shape == (96, 30, 96)
    turned = np.stack([np.asarray(section) for section in full]).transpose(1, 0, 2)[::-1]
    expected = np.stack([np.asarray(section) for section in trimmed])
    assert np.corrcoef(turned.ravel(), expected.ravel())[0, 1] > 0.999
    assert parse_edf(edf.read_text())["Setup.AxisA.ExcludeProjections"] == "2,4", "kept, also where the set-up is skipped"
    assert read_record(folder / "run.json").alignment.included[1] is False


def test_going_on_without_an_alignment_is_an_error_that_says_where_to_start(call, adoc, folder):
    outcome = call("-di", adoc(VOLUME), "-cu", folder, "-ro", NAME, "-st", 8)
    assert outcome.status == 1
    assert "start at step 6 or before" in outcome.text
    assert any(line.startswith("ABORT SET: ") for line in outcome.lines)


def test_a_bad_data_set_does_not_stop_the_next_and_the_status_counts_the_bad_ones(call, adoc, folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    words = ["-di", adoc(GOLD), "-ro", "A", "-ro", NAME, "-ro", "B", "-cu", empty, "-cu", folder, "-cu", empty, "-en", 0]
    outcome = call(*words)
    assert outcome.status == 2
    assert [line.split(":")[0] for line in outcome.lines].count("ABORT SET") == 2
    assert f"Completed dataset {NAME} through step 0" in outcome.lines
    stopped = call(*words, "-exit")
    assert stopped.status == 1
    assert f"Completed dataset {NAME} through step 0" not in stopped.lines


@pytest.mark.parametrize(
    ("line", "said", "abort"),
    [
        ("comparam.tilt.tilt.Thickness = 90", "the right spelling is comparam.tilt.tilt.THICKNESS", "Bad directives"),
        ("runtime.Nonsense.any.more = 1", "runtime.Nonsense.any.more = 1", "Bad directives"),
        ("setupset.copyarg.dual = 1", "setupset.copyarg.dual = 1", "Directives that cannot be followed"),
        ("runtime.Preprocessing.any.removeXrays = maybe", "removeXrays = maybe", "Bad directives"),
        ("no equals sign", "is not a directive", None),
    ],
)
def test_what_the_directives_have_wrong_stops_the_data_set_before_any_work(line, said, abort, call, adoc, folder):
    outcome = call("-di", adoc(f"{GOLD}{line}\n"), "-cu", folder, "-ro", NAME, "-en", 6)
    assert outcome.status == 1
    assert said in outcome.text
    assert any(text.startswith("ERROR: ") for text in outcome.lines)
    assert outcome.lines[-1].startswith(f"ABORT SET: {abort or ''}")
    assert not (folder / f"{NAME}.xf").exists()
    assert not (folder / "run.json").exists()


def test_unknown_directives_are_not_checked_where_that_is_asked_for(call, adoc, folder):
    words = ["-di", adoc(f"{GOLD}runtime.Nonsense.any.more = 1\n"), "-cu", folder, "-ro", NAME, "-en", 0]
    assert call(*words).status == 1
    outcome = call(*words, "-validation", -1)
    assert outcome.status == 0
    assert "runtime.Nonsense.any.more = 1" in outcome.text[outcome.text.index("NOT followed") :]


@pytest.mark.parametrize("kind", [1, 2])
def test_validation_checks_the_directives_and_does_nothing_else(kind, call, adoc, tmp_path):
    good = call("-di", adoc(VOLUME), "-validation", kind)
    assert (good.status, good.lines[-1]) == (0, "Directives all seem OK in that file")
    bad = call("-di", adoc(f"{VOLUME}runtime.Nonsense.any.more = 1\n"), "-validation", kind)
    assert (bad.status, bad.lines[-1]) == (1, "ABORT SET: Bad directives")
    assert [path.name for path in tmp_path.iterdir()] == ["batch.adoc"]


def test_a_failed_alignment_leaves_no_earlier_one_in_its_place(call, adoc, folder, monkeypatch):
    for name in (f"{NAME}.xf", f"{NAME}.tlt", "align.log"):
        (folder / name).write_text("of another time\n")
    monkeypatch.setenv("TILTFLOW_FALLBACK", "false")
    no_gold = GOLD.replace("gold = 10", "gold = 90")
    outcome = call("-di", adoc(no_gold), "-cu", folder, "-ro", NAME, "-en", 6)
    assert outcome.status == 1, outcome.text
    assert "ABORT SET: An error occurred running align.com" in outcome.lines
    assert any(line.startswith("ERROR: ") for line in outcome.lines)
    assert not [name for name in (f"{NAME}.xf", f"{NAME}.tlt", "align.log") if (folder / name).exists()]
    assert (folder / f"{NAME}.xf~").read_text() == "of another time\n"
    assert read_record(folder / "run.json").status == "error"
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_stack_that_is_no_image_costs_its_own_data_set_alone(call, adoc, folder, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / f"{NAME}.mrc").write_bytes(b"no image")
    outcome = call("-di", adoc(GOLD), "-ro", NAME, "-ro", NAME, "-cu", broken, "-cu", folder, "-en", 0)
    assert outcome.status == 1
    assert f"Completed dataset {NAME} through step 0" in outcome.lines


def test_the_existing_data_file_of_etomo_keeps_its_other_entries(call, adoc, folder):
    (folder / f"{NAME}.edf").write_text("#of eTomo\nSetup.PixelSize=7\nProcessTrack.Setup=Complete\n")
    assert call("-di", adoc(GOLD), "-cu", folder, "-ro", NAME, "-en", 0).status == 0
    entries = parse_edf((folder / f"{NAME}.edf").read_text())
    assert (entries["ProcessTrack.Setup"], entries["Setup.PixelSize"]) == ("Complete", "1")


def test_the_command_and_the_script_do_the_same(call, adoc, folder):
    words = ["-di", str(adoc(GOLD)), "-cu", str(folder), "-ro", NAME, "-en", "0", "-gpu", "1"]
    script = call(*words)
    command = CliRunner().invoke(app, ["batchruntomo", *words])
    assert (command.exit_code, command.output) == (script.status, script.text)


@pytest.mark.parametrize("words", [[], ["-help"], ["--help"], ["-nonsense"], ["-di"], ["-e", "5"], ["-1"]])
def test_the_command_passes_every_word_on(words, call):
    script = call(*words)
    command = CliRunner().invoke(app, ["batchruntomo", *words])
    assert (command.exit_code, command.output) == (script.status, script.text)


def test_a_wrong_command_line_ends_with_imods_line_and_status_1(call):
    outcome = call("-nonsense")
    assert outcome.status == 1
    assert outcome.lines[0].startswith("ERROR: batchruntomo - Illegal option: -nonsense")


def test_asking_for_help_imports_nothing_heavy(run_python):
    heavy = run_python(
        "import sys; from tiltflow.batchruntomo import main; main(['-help']); "
        "print([name for name in ('scipy', 'numba', 'pydantic') if name in sys.modules])"
    )
    assert heavy.splitlines()[-1] == "[]"


@pytest.fixture
def run_python():
    return lambda code: subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("asked", "variable", "threads"), [(None, None, 1), (None, "2", 2), (1, "2", 1), (3, None, 3)])
def test_without_a_number_of_cores_one_is_used_unless_the_site_says_more(asked, variable, threads, monkeypatch):
    monkeypatch.delenv("TILTFLOW_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("TILTFLOW_THREADS", variable)
    assert site_of(load_settings(threads=asked)).threads == threads


def test_what_is_fixed_in_the_directives_is_fixed_without_markers_too(call, adoc, folder):
    fixed = "".join(f"comparam.align.tiltalign.{name}\n" for name in ("MagOption = 0", "TiltOption = 0", "RotOption = -1"))
    outcome = call("-di", adoc(f"{GOLD}runtime.Fiducials.any.fiducialless = 1\n{fixed}"), "-cu", folder, "-ro", NAME, "-en", 6)
    assert outcome.status == 0, outcome.text
    matrices = read_transforms(folder / f"{NAME}.xf")[..., :2]
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-5)
    assert np.ptp(np.rad2deg(np.arccos(matrices[:, 0, 0]))) < 1e-3


@pytest.mark.whole
def test_a_signal_to_quit_ends_the_work_and_leaves_nothing_half_made(adoc, folder):
    words = ["-di", str(adoc(VOLUME)), "-cu", str(folder), "-ro", NAME]
    process = subprocess.Popen([sys.executable, "-m", "tiltflow.batchruntomo", *words], stdout=subprocess.PIPE, text=True)
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if "(running align.com)" in line:
            process.send_signal(signal.SIGTERM)
    assert process.wait() == 1
    process.stdout.close()
    assert lines[-1] == "RECEIVED SIGNAL TO QUIT, JUST EXITING"
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    assert not (folder / f"{NAME}.xf").exists()
    assert read_record(folder / "run.json").status == "error"


@pytest.mark.parametrize("of", ["views", "frames"])
def test_half_volumes_are_of_frames_where_these_lie_beside_the_series(call, adoc, folder, of):
    if of == "frames":
        whole = open_mrc(folder / f"{NAME}.mrc")
        noise = np.random.default_rng(1)
        for which in ("EVN", "ODD"):
            with MrcWriter(folder / f"{NAME}_{which}.mrc", whole.shape, np.int16, pixel_size_angstrom=10, is_stack=True) as out:
                for view in range(whole.shape[0]):
                    out.write((whole[view] / 2 + noise.normal(0, 50, whole.shape[1:])).astype(np.int16))
    outcome = call("-di", adoc(f"{VOLUME}runtime.Tiltflow.any.halfVolumes = 1\n"), "-cu", folder, "-ro", NAME)
    assert outcome.status == 0, outcome.text
    assert [open_mrc(folder / f"{NAME}_rec_{half}.mrc").shape for half in ("even", "odd")] == [(30, 96, 96)] * 2
    assert not list(folder.glob("*_EVN_ali.mrc"))
    even, volume = (np.asarray(open_mrc(folder / f"{NAME}_rec{half}.mrc")[15], float) for half in ("_even", ""))
    assert np.corrcoef(even.ravel(), volume.ravel())[0, 1] > 0.5


FILTER = "runtime.AlignedStack.any.filterStack = 1\ncomparam.mtffilter.mtffilter.LowPassRadiusSigma = 0.1,0.02\n"
CTF = "runtime.AlignedStack.any.correctCTF = 1\nsetupset.copyarg.voltage = 300\nsetupset.copyarg.defocus = 4000\n"
GOLD_ERASED = "runtime.AlignedStack.any.eraseGold = 1\n"


@pytest.fixture(scope="module")
def plain(call, write_data_set, phantom, tmp_path_factory):
    """A data set with its alignment, and its aligned stack without corrections."""
    folder = write_data_set(tmp_path_factory.mktemp("plain") / NAME, phantom)
    file = folder.parent / "plain.adoc"
    file.write_text(VOLUME)
    assert call("-di", file, "-cu", folder, "-ro", NAME, "-en", 6).status == 0
    assert call("-di", file, "-cu", folder, "-ro", NAME, "-st", 8, "-en", 8).status == 0
    return folder


@pytest.fixture
def aligned_folder(plain, tmp_path):
    """The same in a folder of its own."""
    shutil.copytree(plain, tmp_path / NAME)
    return tmp_path / NAME


def views_of(folder):
    with open_mrc(folder / f"{NAME}_ali.mrc") as stack:
        return stack.read_block().astype(float)


@pytest.mark.parametrize(("line", "step"), [(CTF, 11), (FILTER, 13)])
def test_views_are_corrected_as_the_aligned_stack_is_made_if_the_step_is_run(call, adoc, plain, aligned_folder, line, step):
    for last in (step - 1, step):
        outcome = call("-di", adoc(VOLUME + line), "-cu", aligned_folder, "-ro", NAME, "-st", 8, "-en", last)
        assert outcome.status == 0, outcome.text
        changed = not np.array_equal(views_of(aligned_folder), views_of(plain))
        assert changed == ("Corrected the views" in outcome.text) == (last == step)
    assert (aligned_folder / f"{NAME}.defocus").is_file() == (line == CTF)


@pytest.mark.parametrize(
    ("line", "step", "kept"),
    [
        (CTF, 11, lambda recipe: recipe.ctf.correct == "yes"),
        (GOLD_ERASED, 12, lambda recipe: recipe.erase is not None),
        (FILTER, 13, lambda recipe: recipe.filter is not None),
        (f"{FILTER}comparam.mtffilter.mtffilter.FixedImageDose = 3\n", 13, lambda recipe: recipe.exposure.weight == "yes"),
        ("runtime.NAD.any.iterations = 2\nruntime.NAD.any.Kvalue = 10\n", 21, lambda recipe: recipe.diffuse is not None),
    ],
)
def test_what_a_later_step_does_is_left_out(adoc, line, step, kept):
    recipe = draft_recipe(template=adoc(VOLUME + line), engine="native")
    assert [kept(within(recipe, Steps(0, last))) for last in (step - 1, step, 22)] == [False, True, True]


@pytest.mark.parametrize("line", [CTF, FILTER, GOLD_ERASED])
def test_a_stack_that_is_there_is_not_corrected_later_which_is_an_error(call, adoc, aligned_folder, line):
    before = (aligned_folder / f"{NAME}_ali.mrc").read_bytes()
    outcome = call("-di", adoc(VOLUME + line), "-cu", aligned_folder, "-ro", NAME, "-st", 11, "-en", 13)
    assert outcome.status == 1
    assert "start at 8 or before" in outcome.text
    assert (aligned_folder / f"{NAME}_ali.mrc").read_bytes() == before
    assert call("-di", adoc(VOLUME + line), "-cu", aligned_folder, "-ro", NAME, "-st", 14, "-en", 14).status == 0


def test_a_required_correction_that_the_data_do_not_support_stops_the_data_set(call, adoc, aligned_folder):
    unknown = CTF.replace("setupset.copyarg.defocus = 4000\n", "")
    outcome = call("-di", adoc(VOLUME + unknown), "-cu", aligned_folder, "-ro", NAME, "-st", 8)
    assert outcome.status == 1
    assert "the correction of the CTF is required" in outcome.text
    assert outcome.lines[-1].startswith("ABORT SET")


def test_volumes_to_look_at_lie_beside_the_tomogram(call, adoc, aligned_folder):
    more = f"{CTF}runtime.Tiltflow.any.deconvolve = 1\nruntime.NAD.any.iterations = 2\nruntime.NAD.any.Kvalue = 10\n"
    outcome = call("-di", adoc(VOLUME + more), "-cu", aligned_folder, "-ro", NAME, "-st", 8)
    assert outcome.status == 0, outcome.text
    assert [open_mrc(aligned_folder / f"{NAME}_{kind}.mrc").shape for kind in ("deconv", "nad")] == [(30, 96, 96)] * 2
