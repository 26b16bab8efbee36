"""The recipe: every directive used, ignored or refused; nothing dropped, nothing smuggled in."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.recipe.translating import BASE, status_of, translate, understood

from tiltflow.errors import DirectiveError, ParameterError, UnsupportedError
from tiltflow.formats.directives import Directive, parse_directives
from tiltflow.formats.known_directives import known_directives
from tiltflow.recipe import BrtParameters, from_directives, make_recipe, render_adoc
from tiltflow.recipe.lookup import Lookup


class TestTranslation:
    def test_a_stage_may_ask_only_for_what_the_catalogue_calls_used(self):
        lookup = Lookup(parse_directives(BASE, "x"))
        for name in ("comparam.tilt.tilt.SLICE", "comparam.tilt.tilt.THICKNES"):
            for ask in (lookup.has, lookup.removed, lookup.text):
                with pytest.raises(LookupError, match=f"a stage looks up {name}, which"):
                    ask(name)

    def test_the_plastic_template_means_what_it_says(self):
        recipe = make_recipe(BrtParameters(two_surfaces=1, target_number_of_beads=30, thickness=120), engine="native")
        assert recipe.method == "gold"
        assert recipe.gold_nm == 10
        assert recipe.beads.two_surfaces
        assert recipe.beads.target_number == 30
        assert recipe.beads.local_area_px == 500
        assert recipe.beads.rounds == 4
        assert recipe.xrays.enabled
        assert recipe.patches.size_px == (300, 300)
        solve = recipe.solve
        assert (solve.rotation, solve.tilt, solve.magnification, solve.surfaces) == ("each", "each", "each", 2)
        assert (solve.robust, solve.stretch, solve.skew, solve.local) == (True, True, True, None)
        assert recipe.stack.binning == 4
        assert not recipe.stack.linear
        assert (recipe.reconstruct.thickness, recipe.reconstruct.binning) == (120, 4)
        assert recipe.reconstruct.log_offset is None
        assert recipe.position.thickness == 180
        assert recipe.position.sample_type == 0
        assert recipe.trim.reorient == 2
        assert not recipe.trim.to_bytes
        assert recipe.sirt is None

    @pytest.mark.parametrize(
        ("text", "offset"), [("", 0.0), ("comparam.tilt.tilt.LOG =", None), ("comparam.tilt.tilt.LOG = 9", 9.0)]
    )
    def test_a_blank_log_means_linear_data_and_no_directive_means_imods_zero(self, text, offset):
        assert translate(BASE + text).reconstruct.log_offset == offset

    def test_units_are_those_of_the_stages(self):
        params = translate(BASE + "setupset.copyarg.pixel = 0.8\ncomparam.tilt.tilt.EXCLUDELIST = 1,3\nsetupset.copyarg.skip = 2")
        assert params.hints.pixel_size_angstrom == pytest.approx(8.0)
        assert params.reconstruct.exclude_views == (0, 2)
        assert params.hints.exclude_views == (2,)

    def test_sizes_and_filters_of_tracks_follow_the_binning_of_the_prealigned_stack(self):
        xcorr = "comparam.xcorr_pt.tiltxcorr."
        params = understood(
            f"{BASE}comparam.prenewst.newstack.BinByFactor = 4\n{xcorr}SizeOfPatchesXandY = 100,120\n{xcorr}FilterRadius2 = 0.125\n"
            "comparam.align.tiltalign.LocalAlignments = 1\ncomparam.align.tiltalign.TargetPatchSizeXandY = 200,300\n"
            "comparam.track.beadtrack.LocalAreaTargetSize = 250\n"
        )
        assert params.patches.size_px == (400, 480)
        assert params.patches.low_pass == pytest.approx(0.125 / 4)
        assert params.solve.local is not None
        assert params.solve.local.target_size_px == (800, 1200)
        assert params.beads.local_area_px == 1000

    @pytest.mark.parametrize(
        ("text", "taper", "width", "inside"),
        [
            ("", True, None, False),
            ("comparam.newst.newstack.TaperAtFill = 1,1", True, None, True),
            ("comparam.newst.newstack.TaperAtFill = 30,0", True, 30, False),
            ("comparam.newst.newstack.TaperAtFill = 0,0", False, None, False),
            ("comparam.newst.newstack.TaperAtFill =", False, None, False),
        ],
    )
    def test_the_taper_is_a_width_and_a_direction(self, text, taper, width, inside):
        stack = translate(BASE + text).stack
        assert (stack.taper, stack.taper_px, stack.taper_inside) == (taper, width, inside)

    @pytest.mark.parametrize(
        ("fiducialless", "tracking", "method"), [(0, 0, "gold"), (0, 1, "patches"), (1, 0, "projection"), (1, 1, "projection")]
    )
    def test_the_method_follows_from_two_directives(self, fiducialless, tracking, method):
        text = f"runtime.Fiducials.any.fiducialless = {fiducialless}\nruntime.Fiducials.any.trackingMethod = {tracking}\n"
        assert translate(BASE + text).method == method

    @pytest.mark.parametrize(
        ("text", "thickness"),
        [
            ("comparam.tilt.tilt.THICKNESS = 121", 121),
            ("runtime.Reconstruction.any.binnedThickness = 30", 120),
            ("runtime.Reconstruction.any.fallbackThickness = 90", 90),
        ],
    )
    def test_the_thickness_may_be_given_in_three_ways(self, text, thickness):
        params = translate(f"runtime.AlignedStack.any.binByFactor = 4\nsetupset.copyarg.gold = 10\n{text}\n")
        assert params.reconstruct.thickness == thickness

    @pytest.mark.parametrize("directive", ["binnedThickness", "fallbackThickness"])
    def test_only_a_thickness_to_fall_back_to_gives_way_to_the_one_found(self, directive):
        params = translate(f"setupset.copyarg.gold = 10\nruntime.Reconstruction.any.{directive} = 90\n")
        assert params.position.sets_thickness is (directive == "fallbackThickness")

    def test_two_thicknesses_contradict_each_other(self):
        with pytest.raises(ParameterError, match=r"THICKNESS and .*binnedThickness both give the thickness"):
            translate(BASE + "runtime.Reconstruction.any.binnedThickness = 30")

    def test_no_thickness_stops_the_native_engine_and_not_imod_which_may_find_it(self):
        with pytest.raises(ParameterError, match=r"set comparam\.tilt\.tilt\.THICKNESS"):
            translate("setupset.copyarg.gold = 10")
        translate("setupset.copyarg.gold = 10", engine="imod")

    @pytest.mark.parametrize(
        ("both", "trimmed", "sirt"), [("", "", True), ("1", "", False), ("1", "0", False), ("1", "1", True), ("0", "0", True)]
    )
    def test_when_both_are_made_the_volume_is_the_one_that_imod_trims(self, both, trimmed, sirt):
        text = "runtime.Reconstruction.any.useSirt = 1\n"
        text += f"runtime.Reconstruction.any.doBackprojAlso = {both}\n" * bool(both)
        text += f"runtime.Trimvol.any.doSIRTifBoth = {trimmed}\n" * bool(trimmed)
        assert (understood(BASE + text).sirt is not None) == sirt

    def test_the_last_of_the_iterations_that_are_left_counts(self):
        text = "runtime.Reconstruction.any.useSirt = 1\ncomparam.sirtsetup.sirtsetup.LeaveIterations = 5,10,25-30"
        sirt = understood(BASE + text).sirt
        assert sirt is not None
        assert sirt.iterations == 30

    def test_beads_without_a_diameter_are_refused_for_every_engine_and_patches_need_none(self):
        text = "comparam.tilt.tilt.THICKNESS = 100\nsetupset.copyarg.gold = 0\n"
        for engine in ("native", "imod"):
            with pytest.raises(ParameterError, match=r"gold is 0: give --gold, track patches with --tracking-method 1"):
                translate(text, engine)
        assert translate(text + "runtime.Fiducials.any.trackingMethod = 1").method == "patches"
        assert translate(text + "runtime.Fiducials.any.fiducialless = 1").method == "projection"

    def test_what_a_stage_will_not_have_is_said_in_its_own_words(self):
        with pytest.raises(ParameterError, match=r"Patches of \(8, 8\) px"):
            translate(BASE + "comparam.xcorr_pt.tiltxcorr.SizeOfPatchesXandY = 8,8")

    @settings(deadline=None)
    @given(st.lists(st.sampled_from(list(known_directives())), unique=True), st.data())
    def test_whatever_the_values_the_translator_reports_and_does_not_fall_over(self, names, data):
        values = st.sampled_from(["", "0", "1", "2", "-1", "0.5", "1e9", "100,200", "3 4 5", "1-5", "x", "0,0", "-3,-3"])
        directives = [Directive(name, data.draw(values)) for name in names]
        _, report = from_directives(directives)
        assert [row.name for row in report.rows] == names


class TestAxes:
    def test_axis_a_overrides_any_and_axis_b_is_left_alone(self):
        text = "".join(f"runtime.AlignedStack.{axis}.binByFactor = {value}\n" for axis, value in (("a", 2), ("any", 4), ("b", 8)))
        assert translate(BASE + text).stack.binning == 2
        assert status_of(text, "runtime.AlignedStack.a.binByFactor").status == "used"
        overridden = status_of(text, "runtime.AlignedStack.any.binByFactor")
        assert (overridden.status, overridden.reason) == ("ignored", "runtime.AlignedStack.a.binByFactor overrides it")
        other = status_of(text, "runtime.AlignedStack.b.binByFactor")
        assert (other.status, other.reason) == ("ignored", "a single series is axis a")

    def test_a_command_file_may_bear_the_axis(self):
        assert translate("setupset.copyarg.gold = 10\ncomparam.tilta.tilt.THICKNESS = 77").reconstruct.thickness == 77

    def test_axis_b_alone_decides_nothing(self):
        name = "runtime.AlignedStack.b.binByFactor"
        assert translate(f"{BASE}{name} = 8").stack.binning == 1
        assert (status_of(f"{name} = 8", name).status, status_of(f"{name} = 8", name, "imod").status) == ("ignored", "used")


class TestFates:
    def test_our_own_directives_never_reach_imod(self):
        name = "runtime.Tiltflow.any.halfVolumes"
        assert status_of(f"{name} = 1", name).status == "used"
        row = status_of(f"{name} = 1", name, "imod")
        assert (row.status, "run with another engine (--engine)" in row.reason) == ("refused", True)
        assert status_of(f"{name} = 0", name, "imod").status == "ignored"
        recipe = make_recipe(overrides=[f"{name}=1"])
        assert recipe.halves
        with pytest.raises(UnsupportedError, match=name):
            recipe.for_engine("imod")
        harmless = make_recipe(overrides=[f"{name}=0"], engine="imod")
        assert name not in render_adoc(harmless, name="B", stackext="st", dataset_directory="/d")

    def test_relaxation_outside_of_what_converges_is_wrong(self):
        name = "runtime.Tiltflow.any.sirtRelaxation"
        assert status_of(f"{name} = 2", name).status == "invalid"

    @pytest.mark.parametrize(
        "directive",
        [
            "setupset.copyarg.distort = field.idf",
            "comparam.ctfplotter.ctfplotter.SearchCutonFrequency = 1",
            "runtime.Fiducials.any.trackingMethod = 2",
            "runtime.Fiducials.any.seedingMethod = 0",
            "runtime.Fiducials.any.seedingMethod = 2",
            "comparam.align.tiltalign.BeamTiltOption = 2",
            "comparam.align.tiltalign.RotOption = 7",
            "comparam.align.tiltalign.FixXYZCoordinates = 1",
            "comparam.tilt.tilt.DENSWEIGHT = 2,1,0.5",
            "comparam.tilt.tilt.SLICE = 10,20",
            "runtime.SeedFinding.any.rawBoundaryModel = area.mod",
            "runtime.Trimvol.any.findSecAddThickness = 10",
            "comparam.mtffilter.mtffilter.DeconvolutionStrength = 1",
            "runtime.RunAfterStep.any.9 = run.sh",
        ],
    )
    def test_what_would_change_the_result_is_refused_by_the_native_engine_alone(self, directive):
        name = directive.split(" = ")[0]
        row = status_of(directive, name)
        assert row.status == "refused"
        with pytest.raises(UnsupportedError, match=re.escape(f"{directive} (test.adoc:3): {row.reason}")):
            translate(BASE + directive)
        assert status_of(directive, name, "imod").status == "used"
        translate(BASE + directive, "imod")

    @pytest.mark.parametrize("engine", ["native", "imod"])
    def test_two_axes_in_one_set_are_refused_by_every_engine_with_advice_that_works(self, engine):
        name = "setupset.copyarg.dual"
        row = status_of(f"{name} = 1", name, engine)
        assert row.status == "refused"
        assert "xa.st and xb.st" in row.reason
        assert "--engine" not in row.reason
        assert status_of(f"{name} = 0", name, engine).status == "ignored"
        with pytest.raises(UnsupportedError, match=r"each is done as a series of its own; combine their volumes in eTomo"):
            translate(f"{BASE}{name} = 1", engine)

    def test_two_axes_in_one_set_stop_the_run_before_an_engine_is_chosen(self):
        with pytest.raises(UnsupportedError, match=r"setupset\.copyarg\.dual = 1"):
            make_recipe(overrides=["setupset.copyarg.dual=1"], engine="auto")

    @pytest.mark.parametrize(
        ("directive", "advice"),
        [
            ("runtime.Fiducials.any.trackingMethod = 2", "run with --engine imod where RAPTOR is installed"),
            ("runtime.Fiducials.any.seedingMethod = 0", "that nobody attends: give 1 to have them found"),
            ("runtime.Fiducials.any.seedingMethod = 2", "that nobody attends: give 1 to have them found"),
            ("comparam.align.tiltalign.RotOption = 7", "or run with --engine imod"),
        ],
    )
    def test_the_advice_of_a_refusal_can_be_followed(self, directive, advice):
        assert advice in status_of(directive, directive.split(" = ")[0]).reason

    @pytest.mark.parametrize(
        "directive",
        [
            "setupset.copyarg.dual = 0",
            "comparam.align.tiltalign.FixedOrInitialBeamTilt = 0.00",
            "comparam.align.tiltalign.LocalTiltOption = 5",
        ],
    )
    def test_a_value_that_asks_for_nothing_is_accepted(self, directive):
        assert status_of(directive, directive.split(" = ")[0]).status == "ignored"

    def test_sirt_with_local_alignments_is_refused_and_each_alone_is_not(self):
        sirt, local = "runtime.Reconstruction.any.useSirt = 1\n", "comparam.align.tiltalign.LocalAlignments = 1\n"
        name = sirt.split(" = ")[0]
        assert status_of(sirt + local, name).status == "refused"
        assert status_of(sirt + local, name, "imod").status == "used"
        assert translate(BASE + sirt).sirt is not None
        assert translate(BASE + local).solve.local is not None
        assert translate(BASE + sirt + local + "runtime.Fiducials.any.fiducialless = 1").sirt is not None

    def test_a_manual_seed_matters_only_where_beads_are_tracked(self):
        text = "runtime.Fiducials.any.seedingMethod = 0\nruntime.Fiducials.any.trackingMethod = 1"
        translate(BASE + text)

    def test_the_directives_of_beads_say_that_no_beads_are_tracked(self):
        text = "runtime.Fiducials.any.trackingMethod = 1\ncomparam.autofidseed.autofidseed.TargetNumberOfBeads = 9\n"
        row = status_of(text, "comparam.autofidseed.autofidseed.TargetNumberOfBeads")
        assert (row.status, row.reason) == ("ignored", "patches are tracked, not beads")

    @pytest.mark.parametrize("method", ["runtime.Fiducials.any.trackingMethod = 1", "runtime.Fiducials.any.fiducialless = 1"])
    @pytest.mark.parametrize(("erase", "status"), [("", "ignored"), ("0", "ignored"), ("1", "used"), ("2", "used")])
    def test_the_size_of_the_beads_is_used_where_gold_is_erased_whatever_aligns_the_views(self, method, erase, status):
        text = f"{method}\n" + (f"runtime.AlignedStack.any.eraseGold = {erase}\n" if erase else "")
        assert status_of(text, "setupset.copyarg.gold").status == status

    def test_without_tracks_the_fine_alignment_says_so(self):
        text = "runtime.Fiducials.any.fiducialless = 1\ncomparam.align.tiltalign.LocalAlignments = 1\n"
        assert status_of(text, "comparam.align.tiltalign.LocalAlignments").reason.startswith("nothing is tracked")

    def test_a_removal_says_what_holds_instead(self):
        assert status_of("setupset.copyarg.pixel =", "setupset.copyarg.pixel").reason == "the default applies: from the header"
        row = status_of("comparam.tilt.tilt.LOG =", "comparam.tilt.tilt.LOG")
        assert (row.status, row.reason) == ("removed", "no logarithm is taken: the data are linear already")

    def test_ignored_directives_give_their_reason_and_every_row_its_origin(self):
        row = status_of("runtime.Cleanup.any.doCleanup = 1", "runtime.Cleanup.any.doCleanup")
        assert row.status == "ignored"
        assert "--keep-workdir" in row.reason
        assert row.origin == "test.adoc:3"

    @pytest.mark.parametrize("engine", ["native", "imod"])
    def test_wrong_case_is_an_error_with_the_right_spelling_whatever_the_engine(self, engine):
        with pytest.raises(
            DirectiveError, match=r"incorrect case: comparam\.tilt\.tilt\.Thickness .*is comparam\.tilt\.tilt\.THICKNESS"
        ):
            translate(BASE + "comparam.tilt.tilt.Thickness = 3", engine)

    @pytest.mark.parametrize("engine", ["native", "imod"])
    @pytest.mark.parametrize("name", ["runtime.Positioning.any.sampleTyp", "setupset.copyarg.golds", "comparam.tilt.tiltt.RADIAL"])
    def test_an_unknown_name_is_an_error_with_the_nearest_whatever_the_engine(self, engine, name):
        with pytest.raises(DirectiveError, match=rf"unknown directive: {name} .*the nearest known name is "):
            translate(f"{BASE}{name} = 1", engine)

    def test_an_option_that_only_imod_may_know_is_for_imod_alone(self):
        text = "comparam.align.tiltalign.BrandNewOption = 1"
        with pytest.raises(DirectiveError, match="--engine imod passes it on"):
            translate(BASE + text)
        row = status_of(text, "comparam.align.tiltalign.BrandNewOption", "imod")
        assert (row.status, row.reason) == ("used", "not in tiltflow's catalogue; passed to the command file as it is")

    @pytest.mark.parametrize(
        ("directive", "expected"),
        [
            ("setupset.copyarg.dual = yes", "0 or 1 was expected"),
            ("runtime.Cleanup.any.doCleanup = true", "0 or 1 was expected"),
            ("runtime.AlignedStack.any.binByFactor = 0", "1 or more was expected"),
            ("runtime.AlignedStack.any.binByFactor = 4 # bin", "a comment needs a line of its own"),
            ("comparam.tilt.tilt.RADIAL = 0.35", "2 numbers were expected"),
            ("setupset.copyarg.pixel = 0", "a size above 0"),
            ("setupset.copyarg.skip = 0-3", "1 or more was expected"),
        ],
    )
    def test_a_wrong_value_is_an_error_that_says_what_was_expected(self, directive, expected):
        with pytest.raises(DirectiveError, match=rf"wrong value: .*{expected}"):
            translate(BASE + directive)

    def test_all_that_is_wrong_of_a_kind_is_said_at_once(self):
        with pytest.raises(UnsupportedError, match=r"dual = 1.*comparam.ctfplotter.ctfplotter.SearchCutonFrequency = 1"):
            translate(BASE + "setupset.copyarg.dual = 1\ncomparam.ctfplotter.ctfplotter.SearchCutonFrequency = 1")
