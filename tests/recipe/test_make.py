"""Making a recipe: templates, layers of files, overrides; its digest, and the directive file that IMOD gets."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest

from tiltflow.align.audit import AuditParams
from tiltflow.align.bundle import SolveParams
from tiltflow.errors import DirectiveError, LocationError, ParameterError, UnsupportedError
from tiltflow.formats.directives import parse_directives
from tiltflow.recipe import BrtParameters, make_recipe, render_adoc, report_directives
from tiltflow.recipe.parameters import PARAMETERS

BASE = "comparam.tilt.tilt.THICKNESS = 100\nsetupset.copyarg.gold = 10\n"


class TestMaking:
    def test_overrides_win_over_the_template_and_parameters_fill_it_in(self):
        recipe = make_recipe(BrtParameters(thickness=150), overrides=["runtime.AlignedStack.any.binByFactor=2"], engine="native")
        assert (recipe.stack.binning, recipe.reconstruct.thickness) == (2, 150)
        other = make_recipe(BrtParameters(thickness=150), overrides=[("comparam.tilt.tilt.THICKNESS", "99")], engine="native")
        assert other.reconstruct.thickness == 99
        row = next(row for row in other.report.rows if row.name == "comparam.tilt.tilt.THICKNESS")
        assert (row.value, row.origin) == ("99", "--set")

    @pytest.mark.parametrize(
        "override", ["comparam.tilt.tilt.THICKNESS=1\nsetupset.copyarg.dual = 1", ("a.b", "1\n"), ("a.b\nc.d", "1")]
    )
    def test_an_override_is_one_directive(self, override):
        with pytest.raises(DirectiveError):
            make_recipe(overrides=[override])

    def test_while_the_engine_is_open_only_what_no_engine_can_do_is_refused(self):
        recipe = make_recipe(BrtParameters(tracking_method=2))
        assert recipe.engine == "auto"
        assert [row.name for row in recipe.report.wrong] == ["runtime.Fiducials.any.trackingMethod"]
        assert recipe.for_engine("imod").engine == "imod"
        with pytest.raises(UnsupportedError, match=r"runtime\.Fiducials\.any\.trackingMethod = 2 \(plastic_brt:\d+\): "):
            recipe.for_engine("native")
        with pytest.raises(UnsupportedError):
            make_recipe(BrtParameters(tracking_method=2), engine="native")
        with pytest.raises(DirectiveError, match="incorrect case"):
            make_recipe(overrides=["setupset.copyarg.Gold=1"])

    def test_an_audit_gets_the_parameters_of_the_recipe_but_fixes_nothing(self):
        fixed = [
            "comparam.align.tiltalign.RotOption=-1",
            "comparam.align.tiltalign.TiltOption=0",
            "comparam.align.tiltalign.MagOption=0",
            "comparam.align.tiltalign.AngleOffset=3",
            "comparam.align.tiltalign.RobustFitting=0",
            "comparam.xcorr_pt.tiltxcorr.SizeOfPatchesXandY=100,100",
            "comparam.autofidseed.autofidseed.TargetNumberOfBeads=17",
        ]
        recipe = make_recipe(BrtParameters(gold=15), overrides=fixed, engine="native", trust_limit_px=0.7)
        assert (recipe.solve.tilt, recipe.solve.stretch, recipe.solve.skew) == ("fixed", True, True)
        asked = {name: getattr(recipe, name) for name in ("gold_nm", "trust_limit_px", "beads", "patches", "refine")}
        assert recipe.audit == AuditParams(**asked, solve=SolveParams(stretch=True, skew=True))
        assert (recipe.audit.gold_nm, recipe.audit.patches.size_px, recipe.audit.beads.target_number) == (15, (100, 100), 17)

    def test_the_specimen_of_an_audit_stretches_where_that_of_the_recipe_does(self):
        assert make_recipe(BrtParameters(gold=15), "cryo_brt").audit.solve == SolveParams()

    def test_the_verdict_is_the_engines(self):
        recipe = make_recipe().for_engine("imod")
        assert {row.status for row in recipe.report.rows} == {"used", "removed"}
        assert {row.status for row in recipe.for_engine("native").report.rows} == {"used", "removed", "ignored"}

    def test_an_unknown_engine_is_an_error(self):
        with pytest.raises(ParameterError, match=r"'relion': choose auto, .*native"):
            make_recipe(engine="relion")

    def test_the_report_raises_nothing_for_what_is_wrong(self):
        overrides = ["setupset.copyarg.dual=1", "comparam.tilt.tilt.Log=0", "flux.capacitor=1", "setupset.scanHeader=maybe"]
        wrong = {row.name: row.status for row in report_directives(overrides=overrides).wrong}
        assert wrong == {
            "setupset.copyarg.dual": "refused",
            "comparam.tilt.tilt.Log": "misspelt",
            "flux.capacitor": "unknown",
            "setupset.scanHeader": "invalid",
        }

    def test_a_template_may_be_any_file(self, tmp_path):
        path = tmp_path / "lab.adoc"
        path.write_text("comparam.tilt.tilt.THICKNESS = {{ THICKNESS * 2 }}\nruntime.Fiducials.any.fiducialless = 1\n")
        recipe = make_recipe(BrtParameters(thickness=60), path, engine="native")
        assert recipe.template == str(path)
        assert (recipe.reconstruct.thickness, recipe.method) == (120, "projection")

    def test_a_template_that_is_not_there_is_named_with_those_that_are(self):
        with pytest.raises(LocationError, match=r"'plastic'.*plastic_brt or cryo_brt, or the path of a file"):
            make_recipe(template="plastic")

    def test_a_parameter_that_the_template_does_not_use_is_reported(self, tmp_path):
        path = tmp_path / "lab.adoc"
        path.write_text(
            "comparam.tilt.tilt.THICKNESS = 100\nruntime.Positioning.any.thickness = {{ rpa_thickness }}\nsetupset.copyarg.gold=9"
        )
        messages = [problem.message for problem in report_directives(BrtParameters(gold=5, thickness=7), path).problems]
        assert messages == ["--gold 5 has no effect: the template does not use gold"]

    def test_a_recipe_travels_between_processes(self):
        recipe = make_recipe(engine="native")
        assert pickle.loads(pickle.dumps(recipe)) == recipe


class TestLayersOfFiles:
    def write(self, folder: Path, **files: str) -> Path:
        for name, text in files.items():
            (folder / f"{name}.adoc").write_text(text)
        return folder / "batch.adoc"

    def test_scope_system_and_user_lie_below_the_batch_in_this_order(self, tmp_path):
        tilt = "comparam.tilt.tilt."
        batch = self.write(
            tmp_path,
            scope=f"{tilt}THICKNESS = 1\n{tilt}XAXISTILT = 1\n{tilt}FakeSIRTiterations = 1\nsetupset.copyarg.rotation = 85\n",
            system=f"{tilt}THICKNESS = 2\n{tilt}XAXISTILT = 2\n{tilt}FakeSIRTiterations = 2\n{tilt}LOG = 7\n",
            user=f"{tilt}THICKNESS = 3\n{tilt}XAXISTILT = 3\n",
            batch=f"setupset.userTemplate = user.adoc\nsetupset.systemTemplate = {tmp_path}/system.adoc\n"
            f"setupset.scopeTemplate = scope.adoc\n{tilt}THICKNESS = 4\n{tilt}LOG =\nsetupset.copyarg.gold = 10\n",
        )
        recipe = make_recipe(template=batch, engine="native")
        found = recipe.reconstruct
        assert (found.thickness, found.x_axis_tilt_deg, found.fake_sirt_iterations, found.log_offset) == (4, 3, 2, None)
        assert recipe.hints.axis_angle_deg == 85
        rows = {row.name: row for row in recipe.report.rows}
        assert rows["setupset.copyarg.rotation"].origin == f"{tmp_path / 'scope.adoc'}:4"
        assert rows["setupset.scopeTemplate"].status == "used"

    def test_a_layer_that_is_not_here_stops_the_native_engine_and_is_left_to_imod(self, tmp_path):
        batch = self.write(tmp_path, batch="setupset.systemTemplate = cryoSample.adoc\n" + BASE)
        with pytest.raises(
            ParameterError, match=r"systemTemplate names cryoSample\.adoc, which does not exist: give its full path"
        ):
            make_recipe(template=batch, engine="native")
        recipe = make_recipe(template=batch, engine="imod")
        text = render_adoc(recipe, name="a", stackext="st", dataset_directory="/x")
        assert "setupset.systemTemplate = cryoSample.adoc\n" in text
        make_recipe(template=batch, overrides=["setupset.systemTemplate="], engine="native")


class TestDigest:
    def test_it_names_what_decides_the_result(self):
        recipe = make_recipe(engine="native")
        assert len(recipe.digest) == 64
        assert int(recipe.digest, 16) > 0
        assert recipe.digest == make_recipe(engine="native").digest

    @pytest.mark.parametrize("field", list(PARAMETERS))
    def test_every_parameter_counts(self, field):
        value = {"gold": 15, "target_number_of_beads": 7, "thickness": 60}.get(field, 1)
        assert make_recipe(BrtParameters(**{field: value})).digest != make_recipe().digest

    def test_overrides_engine_and_fallback_count(self):
        digests = {
            make_recipe().digest,
            make_recipe(engine="native").digest,
            make_recipe(engine="imod").digest,
            make_recipe(fallback=False).digest,
            make_recipe(trust_limit_px=0.5).digest,
            make_recipe(template="cryo_brt").digest,
            make_recipe(overrides=["comparam.tilt.tilt.LOG=0"]).digest,
        }
        assert len(digests) == 7

    @pytest.mark.parametrize("name", ["setupset.datasetDirectory", "setupset.copyarg.name", "setupset.copyarg.stackext"])
    def test_names_and_folders_do_not_count(self, name):
        assert make_recipe(overrides=[f"{name}=/some/where/else"]).digest == make_recipe().digest

    def test_where_a_layer_lies_does_not_count_but_what_it_says_does(self, tmp_path):
        digests = []
        for folder, rotation in (("a", 85), ("b", 85), ("c", 86)):
            (tmp_path / folder).mkdir()
            path = tmp_path / folder / "scope.adoc"
            path.write_text(f"setupset.copyarg.rotation = {rotation}\n")
            digests.append(make_recipe(overrides=[f"setupset.scopeTemplate={path}"]).digest)
        assert digests[0] == digests[1] != digests[2]


SERIES = {"name": "TS_01", "stackext": "mrc", "dataset_directory": "/scratch/TS_01"}


class TestAdoc:
    def test_it_holds_the_directives_in_force_for_the_series(self):
        recipe = make_recipe(BrtParameters(thickness=120), overrides=["comparam.tilt.tilt.XAXISTILT=1.5"], engine="imod")
        text = render_adoc(recipe, **SERIES)
        found = {each.name: each.value for each in parse_directives(text, "x")}
        in_recipe = {each.name: each.value for each in recipe.directives}
        assert found == in_recipe | {
            "setupset.copyarg.name": "TS_01",
            "setupset.copyarg.stackext": "mrc",
            "setupset.datasetDirectory": "/scratch/TS_01",
        }
        assert found["comparam.tilt.tilt.XAXISTILT"] == "1.5"
        assert recipe.digest[:16] in text.splitlines()[0]

    def test_a_second_axis_has_its_extension(self):
        text = render_adoc(make_recipe(engine="imod"), **SERIES, current_b_stackext="st")
        assert "setupset.currentBStackExt = st\n" in text

    @pytest.mark.parametrize("field", ["name", "stackext", "dataset_directory"])
    def test_no_name_of_a_file_becomes_a_directive(self, field):
        series = SERIES | {field: "x\nruntime.AlignedStack.any.correctCTF = 1"}
        with pytest.raises(DirectiveError, match="would be read as another directive"):
            render_adoc(make_recipe(), **series)

    def test_an_option_that_only_imod_may_know_is_passed_on(self):
        recipe = make_recipe(overrides=["comparam.align.tiltalign.BrandNewOption=1"], engine="imod")
        assert "comparam.align.tiltalign.BrandNewOption = 1\n" in render_adoc(recipe, **SERIES)

    def test_a_template_that_decides_by_the_name_of_the_series_is_refused(self, tmp_path):
        path = tmp_path / "lab.adoc"
        path.write_text(BASE + "{% if name.startswith('TS') %}comparam.tilt.tilt.XAXISTILT = 3{% endif %}\n")
        with pytest.raises(DirectiveError, match=r"gives comparam\.tilt\.tilt\.XAXISTILT for some series and not for others"):
            render_adoc(make_recipe(template=path), **SERIES)


class TestPixelSize:
    @pytest.mark.parametrize(("pixel", "binning"), [(10.0, 1), (13.6, 1), (40.0, 1), (2.6, 4), (1.35, 7)])
    def test_cryo_series_are_tracked_and_reconstructed_at_about_ten_angstrom(self, pixel, binning):
        recipe = make_recipe(BrtParameters(tracking_method=1), template="cryo_brt", engine="native")
        for_series = recipe.for_series(pixel)
        assert for_series.patches.size_px == (100 * binning, 100 * binning)
        assert for_series.patches.low_pass == pytest.approx(0.125 / binning)
        assert (for_series.stack.binning, for_series.reconstruct.binning) == (binning, binning)
        text = render_adoc(for_series, **SERIES)
        assert f"comparam.prenewst.newstack.BinByFactor = {binning}\n" in text

    def test_other_templates_do_not_mind(self):
        recipe = make_recipe(engine="native")
        assert dataclasses.replace(recipe.for_series(2.0), tracking_binning=1) == recipe

    def test_the_report_says_that_it_depends_on_the_series(self):
        messages = [problem.message for problem in report_directives(template="cryo_brt").problems]
        assert messages == ["trackingBinning is 1 here; for each series it is set so that binned pixels are about 10 Å"]

    def test_and_says_nothing_of_it_once_the_series_is_known(self):
        recipe = make_recipe(BrtParameters(local_alignments=1, tracking_method=1), template="cryo_brt", engine="native")
        before = [problem.message for problem in recipe.report.problems]
        after = [problem.message for problem in recipe.for_series(2.6).report.problems]
        assert after == [message for message in before if not message.startswith("trackingBinning")]
        assert len(after) == len(before) - 1
