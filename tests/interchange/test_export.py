"""The policy of exports: what is refused, what is replaced, what a run does, what the command says."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tiltflow import geometry
from tiltflow.cli import NONE_SUCCEEDED, SOME_FAILED, USAGE_ERROR, app
from tiltflow.errors import FormatError, LocationError, ParameterError, StageError, UnsupportedError
from tiltflow.formats.tilts import write_tilts
from tiltflow.interchange.export import export_series, series_folders
from tiltflow.interchange.series_geometry import read_geometry
from tiltflow.interchange.targets import TARGETS, target_names
from tiltflow.pipeline import run
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import read_record
from tiltflow.settings import load_settings
from tiltflow.work import Site


def failed_record(record):
    return record | {"status": "error", "failure": {"stage": "reconstruction", "reason": "no view is left"}}


def without(name):
    def remove(record):
        return {key: value for key, value in record.items() if key != name}

    return remove


REFUSED = {
    "a failed series": (failed_record, StageError, "reconstruction: no view is left"),
    "no alignment": (without("alignment"), StageError, "holds no alignment"),
    "no recipe": (without("recipe"), StageError, "holds no alignment"),
    "a record that still runs": (lambda record: record | {"status": "running"}, StageError, "running"),
    "no tilt angles": (
        lambda record: record | {"input": without("tilt_angles")(record["input"])},
        FormatError,
        "does not give the tilt angles",
    ),
    "another number of views": (
        lambda record: record | {"alignment": record["alignment"] | {"tilt_deg": record["alignment"]["tilt_deg"][:-1]}},
        FormatError,
        "9 lines for 8 views",
    ),
    "a .tlt of another alignment": (
        lambda record: record | {"alignment": record["alignment"] | {"tilt_deg": [0.0] * 9}},
        FormatError,
        "does not belong to the record",
    ),
    "no view": (
        lambda record: record | {"alignment": record["alignment"] | {"included": [False] * 9}},
        StageError,
        "no view takes part",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_exported_is_refused_with_series_reason_and_remedy(results, case):
    change, error, says = REFUSED[case]
    path = results.folder / "run.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(error, match=says) as caught:
        list(export_series(results.folder, ["imod"]))
    assert results.name in str(caught.value)
    assert not (results.folder / "export").exists()


@pytest.mark.parametrize("suffix", [".xf", ".tlt"])
def test_a_file_that_is_missing_is_named(results, suffix):
    (results.folder / f"{results.name}{suffix}").unlink()
    with pytest.raises(LocationError, match=f"{results.name}{suffix} does not exist.*--redo"):
        list(export_series(results.folder, ["imod"]))


def test_a_program_that_is_not_known_is_refused_with_those_that_are(results):
    with pytest.raises(ParameterError, match="imod, relion5, warp, aretomo, czi"):
        list(export_series(results.folder, ["eman"]))


@pytest.mark.parametrize("target", ["warp", "aretomo"])
def test_a_pitch_that_changes_from_view_to_view_is_not_dropped(results, target, monkeypatch):
    from tiltflow.interchange import export

    bent = replace(read_geometry(results.folder), pitch_deg=np.linspace(-1, 1, 9))
    monkeypatch.setattr(export, "read_geometry", lambda *_: bent)
    with pytest.raises(UnsupportedError, match=r"from view to view.*export to imod or relion5"):
        list(export_series(results.folder, [target]))
    assert not [*(results.folder / "export").glob("*")]


def test_a_new_export_replaces_the_earlier_one_and_nothing_half_made_stays(results):
    (made,) = export_series(results.folder, ["warp"])
    (made.folder / "old").write_text("from before")
    (again,) = export_series(results.folder, ["warp"])
    assert again.folder == made.folder
    assert not (made.folder / "old").exists()
    assert all(path.exists() for path in again.paths)
    assert [path.name for path in (results.folder / "export").iterdir()] == ["warp"]
    text = (again.folder / "README.txt").read_text()
    assert all(remark in text for remark in again.remarks)


def test_an_old_record_whose_xtilt_had_the_other_sign_is_exported_right(results):
    """The record has the sign of XAXISTILT in every version; the file of 0.2.0 and before had it too."""
    write_tilts(results.folder / f"{results.name}.xtilt", np.full(9, -1.7))
    assert set(read_geometry(results.folder).pitch_deg) == {1.7}


IMODS = {
    "tilt.com is there": ("XAXISTILT -2.0\nOFFSET 1.5\nSHIFT 3.0 -4.0\nTHICKNESS 40\n", 2.0, 1.5, [-3.0, 0, -4.0], False),
    "it is not": (None, 0.0, 0.0, [0.0, 0, 4.5], True),
}


@pytest.mark.parametrize("case", IMODS)
def test_where_imod_made_the_volume_its_own_command_file_says_where_it_lies(results, case):
    text, pitch, offset, centre, told = IMODS[case]
    record = json.loads((results.folder / "run.json").read_text())
    record["engine"]["name"] = "imod"
    record["alignment"]["x_axis_tilt_deg"] = 0.0
    (results.folder / "run.json").write_text(json.dumps(record))
    write_tilts(results.folder / f"{results.name}.xtilt", np.zeros(9))
    if text:
        (results.folder / "tilt.com").write_text("$tilt -StandardInput\n" + text)
    found = read_geometry(results.folder)
    assert set(found.pitch_deg) == {pitch}
    np.testing.assert_allclose(found.tilt_deg, results.alignment.tilt_deg + offset)
    np.testing.assert_allclose(found.volume_centre, centre)
    assert any("--keep-imod" in remark for remark in found.remarks) is told


def test_the_geometry_projects_as_imod_does(results):
    found = read_geometry(results.folder)
    np.testing.assert_allclose(found.project(results.centred(results.points)) - 0.5, results.seen, atol=0.01)


def test_local_alignments_that_no_program_takes_are_said(results):
    (results.folder / f"{results.name}_local.json").write_text("{}")
    (made,) = export_series(results.folder, ["warp"])
    assert any("local alignments are not exported" in remark for remark in made.remarks)


@pytest.mark.parametrize(("y_per_z", "says"), [(0.02, "up to 0.4 px elsewhere along y"), (0.001, None), (None, None)])
def test_z_factors_that_no_program_takes_are_said_where_they_move_anything(results, y_per_z, says):
    record = json.loads((results.folder / "run.json").read_text())
    record["alignment"]["y_per_z"] = None if y_per_z is None else [0.0, -y_per_z, *[0.0] * 7]
    (results.folder / "run.json").write_text(json.dumps(record))
    said = [remark for remark in read_geometry(results.folder).remarks if "z factors" in remark]
    assert [says in remark for remark in said] == ([True] if says else [])


def test_the_command_exports_every_series_of_a_run_and_goes_on_after_one_that_failed(results):
    run_folder = results.folder.parent
    lost = run_folder / "TS_00"
    lost.mkdir()
    (lost / "run.json").write_text(json.dumps(failed_record(json.loads((results.folder / "run.json").read_text()))))
    assert [path.name for path in series_folders(run_folder)] == ["TS_00", "TS_01"]
    ran = CliRunner().invoke(app, ["export", str(run_folder), "--to", "warp", "--to", "aretomo"])
    assert ran.exit_code == SOME_FAILED, ran.output
    assert "ended without a result" in ran.output
    assert {path.name for path in (results.folder / "export").iterdir()} == {"warp", "aretomo"}
    assert not (lost / "export").exists()
    own, together = (place / "export" / "warp" / results.name / f"{results.name}.xf" for place in (results.folder, run_folder))
    assert together.read_bytes() == own.read_bytes()
    assert not (run_folder / "export" / "aretomo").exists(), "its readers take one series at a time"
    assert CliRunner().invoke(app, ["export", str(lost), "--to", "warp"]).exit_code == NONE_SUCCEEDED


def test_relion_gets_one_table_of_all_series_whose_paths_lead_on(results):
    import starfile

    run_folder = results.folder.parent
    shutil.copytree(results.folder, run_folder / "TS_02")
    for path in (run_folder / "TS_02").glob(f"{results.name}*"):
        path.rename(path.with_name(path.name.replace(results.name, "TS_02")))
    record = json.loads((results.folder / "run.json").read_text()) | {"name": "TS_02"}
    del record["input"]["exposure"]
    (run_folder / "TS_02" / "run.json").write_text(json.dumps(record))
    assert CliRunner().invoke(app, ["export", str(run_folder), "--to", "relion5"]).exit_code == 0
    project = run_folder / "export" / "relion5"
    table = starfile.read(project / "tomograms.star", always_dict=True)["global"]
    assert table["rlnTomoName"].tolist() == ["TS_01", "TS_02"]
    assert "rlnTomoImportFractionalDose" not in table, "a column that one of them lacks"
    for name, star in zip(table["rlnTomoName"], table["rlnTomoTiltSeriesStarFile"], strict=True):
        rows = starfile.read(project / star, always_dict=True)[name]
        stack = rows["rlnMicrographName"][0].split("@")[1]
        assert (project / stack).resolve() == results.series.path.resolve()


@pytest.mark.parametrize(
    ("arguments", "says"), [(["--to", "eman"], "is not a program to export to"), (["--to", "warp"], "holds no run.json")]
)
def test_a_wrong_request_is_refused_before_any_work(tmp_path, arguments, says):
    ran = CliRunner().invoke(app, ["export", str(tmp_path), *arguments])
    assert ran.exit_code == USAGE_ERROR
    assert says in " ".join(ran.output.split())


def test_the_setting_takes_a_list_and_refuses_what_is_no_program(monkeypatch):
    monkeypatch.setenv("TILTFLOW_EXPORT", "imod; warp;imod")
    assert load_settings().export == ("imod", "warp")
    assert load_settings(export=["czi"]).export == ("czi",)
    monkeypatch.setenv("TILTFLOW_EXPORT", "eman")
    with pytest.raises(Exception, match="'eman' is not a program to export to"):
        load_settings()


def test_a_run_exports_what_the_site_asks_for_and_completes_a_result_that_is_kept(tmp_path, small_series, fake_imod):
    recipe = make_recipe(BrtParameters(thickness=50), engine="imod")
    (tmp_path / "scratch").mkdir()
    site = Site(scratch=tmp_path / "scratch", export=("imod",))
    (result,) = run([small_series], recipe, site, tmp_path / "out").results
    assert result.ok, result.message
    folder = tmp_path / "out" / "B" / "export"
    assert [path.name for path in folder.iterdir()] == ["imod"]
    record = read_record(tmp_path / "out" / "B" / "run.json")
    assert "export" in [stage.name for stage in record.stages]
    (kept,) = run([small_series], recipe, replace(site, export=("imod", "warp")), tmp_path / "out").results
    assert kept.ok
    assert sorted(path.name for path in folder.iterdir()) == ["imod", "warp"]


def test_an_export_that_fails_costs_the_series_nothing_but_a_warning(tmp_path, small_series, fake_imod):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "out" / "B").mkdir(parents=True)
    (tmp_path / "out" / "B" / "export").write_text("in the way")
    site = Site(scratch=tmp_path / "scratch", export=("warp",))
    (result,) = run([small_series], make_recipe(BrtParameters(thickness=50), engine="imod"), site, tmp_path / "out").results
    assert result.ok
    warnings = read_record(tmp_path / "out" / "B" / "run.json").warnings
    assert any(warning.startswith("export: warp:") for warning in warnings)


def test_every_target_is_in_the_table_of_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "reference" / "interchange.md").read_text()
    for target in TARGETS:
        assert f"`{target.name}`" in text
    assert target_names() == tuple(dict.fromkeys(target_names()))


def test_the_formulas_of_xtilt_are_each_others_inverse():
    values = np.array([-2.0, 0.0, 3.5])
    np.testing.assert_array_equal(geometry.from_xtilt_file(geometry.to_xtilt_file(values)), values)
