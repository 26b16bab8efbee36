"""Plots: what they show is what the record says, in the colours of the page."""

import re
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from tests.report.read_svg import Drawing

from tiltflow.record import StageEntry
from tiltflow.report.captions import CAPTIONS
from tiltflow.report.gather import describe_volume
from tiltflow.report.plots import alignment_plots, time_plot, volume_plots
from tiltflow.work import Thresholds

LIMITS = Thresholds()


def plots_of(record):
    drawn = [*alignment_plots(record, LIMITS), *volume_plots(record), time_plot(record)]
    return {plot.name: plot for plot in drawn if plot is not None}


@pytest.fixture(scope="module")
def drawn(measured, make):
    """Every plot of a record that has everything."""
    record = make.record()
    record.volume = describe_volume(measured, make.voxel_nm)
    record.halves = make.halves()
    return plots_of(record)


def texts(plot):
    return [element.text for element in ET.fromstring(plot.svg).iter() if element.tag.endswith("text")]


def test_a_full_record_gives_every_plot_that_has_a_caption(drawn):
    assert set(drawn) | {"rings", "defocus", "exposure", "stitching"} == set(CAPTIONS)  # those have modules of their own


def test_plots_are_well_formed_and_say_what_they_show(drawn):
    for plot in drawn.values():
        root = ET.fromstring(plot.svg)
        assert root.get("aria-label") == plot.caption.shows
        assert root.get("role") == "img"
        assert root.get("width") is None, "it follows the page"


def test_plots_take_every_colour_from_the_page(drawn):
    for plot in drawn.values():
        colours = re.findall(r'(?:fill|stroke)(?:="|:)([^;"]+)', plot.svg)
        assert all(re.fullmatch(r"none|var\(--[a-z0-9-]+\)", colour) for colour in colours), plot.name
        assert "var(--ink)" in plot.svg


def test_nothing_within_a_plot_has_a_name_that_another_could_have_too(drawn):
    assert not [plot.name for plot in drawn.values() if re.search(r'\bid="|url\(|href="#', plot.svg)]


def test_the_style_of_a_plot_does_not_leak_into_the_page(drawn):
    assert all("<style" not in plot.svg for plot in drawn.values())


def test_there_is_a_bar_for_every_view_that_is_used_and_a_line_for_the_one_left_out(drawn, record):
    seen = Drawing(drawn["residuals"].svg)
    tilt, used = np.array(record.input["tilt_angles"].value), np.array(record.alignment.included)
    (bars,), (lines,) = seen.paths("fill:var(--plot-1)"), seen.paths("stroke:var(--poor)")
    assert [bar[:, 0].mean() for bar in bars] == pytest.approx(tilt[used], abs=0.1)
    assert [bar[:, 1].max() for bar in bars] == pytest.approx([0.24] * 20, abs=0.005)
    assert [line[0, 0] for line in lines] == pytest.approx(tilt[~used], abs=0.1)
    assert "left out" in drawn["residuals"].remark


def test_shifts_refined_tilts_and_axis_angles_are_those_of_the_record(drawn, record):
    tilt, used = np.array(record.input["tilt_angles"].value), np.array(record.alignment.included)
    shifts = np.array(record.alignment.shift_px)
    expected = {
        ("shifts", "var(--plot-1)"): shifts[:, 0],
        ("shifts", "var(--plot-2)"): shifts[:, 1],
        ("tilts", "var(--plot-1)"): np.array(record.alignment.tilt_deg) - tilt,
        ("axis", "var(--plot-1)"): np.array(record.alignment.rotation_deg),
    }
    for (name, color), numbers in expected.items():
        seen = Drawing(drawn[name].svg)
        ((line,), points) = seen.paths(f"stroke:{color}")[:2]
        for found in (line, np.array([point[0] for point in points])):
            assert found[:, 0] == pytest.approx(tilt[used], abs=0.1)
            assert found[:, 1] == pytest.approx(numbers[used], abs=0.2 / seen.unit("y"))


def test_arrows_are_where_the_tracks_are_and_point_where_the_residuals_do(drawn, record):
    seen = Drawing(drawn["vectors"].svg)
    vectors = np.array(record.alignment.residual_vectors_px)
    ((points,), (arrows,)) = (seen.paths(f"stroke:var(--plot-{number})") for number in (2, 1))
    assert np.array([point[0] for point in points]) == pytest.approx(vectors[:, :2], abs=1)
    tips = np.array([arrow[3] for arrow in arrows])
    assert tips - vectors[:, :2] == pytest.approx(vectors[:, 2:] * 0.12 * 512 / np.hypot(0.1, 0.1), abs=1.5)


def test_the_histogram_and_its_window_are_those_of_the_volume(drawn, record, measured, make):
    seen, volume = Drawing(drawn["histogram"].svg), describe_volume(measured, make.voxel_nm)
    ((outline,),) = seen.paths("fill:var(--plot-1)")
    share = 100 * np.array(volume.histogram_counts) / sum(volume.histogram_counts)
    assert outline[1:-1:2, 1] == pytest.approx(share, abs=0.2 / seen.unit("y"))
    ((black, white),) = seen.paths("stroke:var(--plot-3)")
    assert [black[0, 0], white[0, 0]] == pytest.approx([volume.window_low, volume.window_high], abs=0.2 / seen.unit("x"))
    assert {"black", "white"} <= set(seen.texts)


def one(record, name, thresholds=LIMITS):
    return next((plot for plot in alignment_plots(record, thresholds) if plot.name == name), None)


def only(record, *fields):
    """Leave the alignment of a record nothing to draw but some fields."""
    empty = {"residual_per_view_px", "positions_per_view", "correlation_per_view", "residual_vectors_px"}
    for field in empty - set(fields):
        setattr(record.alignment, field, None)
    for field in {"shift_px", "tilt_deg", "rotation_deg"} - set(fields):
        setattr(record.alignment, field, [])
    return record


def test_the_limit_that_is_drawn_is_the_one_in_force(record):
    plot = one(only(record, "residual_per_view_px"), "residuals", Thresholds(residual_good_px=0.123))
    assert "good up to 0.123 px on average" in texts(plot)


def test_the_axis_plot_names_what_was_read_and_the_data(drawn, record):
    assert drawn["axis"].remark.startswith("As read: -8.00°. Data: -8.03° ± 0.10°.")
    record.alignment.axis_angle_from_data_deg = None
    assert "Data" not in one(only(record, "rotation_deg"), "axis").remark


def test_arrows_say_how_much_longer_they_are_than_the_residuals(drawn):
    remark = drawn["vectors"].remark
    scale = float(re.search(r"Arrows are drawn (\d+) times", remark)[1])
    assert scale == pytest.approx(0.12 * 512 / 0.1414, rel=0.02)
    assert "the longest residual is 0.14 px" in remark


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("residual_per_view_px", "residuals"),
        ("positions_per_view", "tracks"),
        ("correlation_per_view", "correlation"),
        ("residual_vectors_px", "vectors"),
        ("shift_px", "shifts"),
        ("tilt_deg", "tilts"),
        ("rotation_deg", "axis"),
    ],
)
def test_only_what_the_method_gives_is_drawn(record, field, name):
    assert [plot.name for plot in alignment_plots(only(record, field), LIMITS)] == [name]


def test_tilts_that_were_not_refined_are_not_drawn(record):
    record.alignment.tilt_deg = record.input["tilt_angles"].value
    assert one(only(record, "tilt_deg"), "tilts") is None


def test_a_record_without_angles_or_alignment_has_no_plots_over_views(record):
    del record.input["tilt_angles"]
    assert not list(alignment_plots(record, LIMITS))
    record.alignment = None
    assert not list(alignment_plots(record, LIMITS))


def test_the_time_plot_leads_with_the_longest_stage(record):
    record.stages.append(StageEntry(name="nothing", status="done", started=record.started, seconds=0.001))
    names = [text for text in texts(time_plot(record)) if text in {stage.name for stage in record.stages}]
    assert names == ["align: gold", "reconstruction", "gen_zarr", "read"]


def test_plots_can_be_drawn_by_several_threads_at_once(record):
    alone = time_plot(record)
    with ThreadPoolExecutor(4) as pool:
        assert all(plot == alone for plot in pool.map(lambda _: time_plot(record), range(6)))


def test_the_agreement_of_half_volumes_states_its_resolution(drawn, record, make):
    assert drawn["halves"].remark.endswith("Resolution: 12.5 nm at 0.5 and 9.9 nm at 0.143.")
    assert {"0.5", "0.143"} <= set(texts(drawn["halves"]))
    record.halves = make.halves().model_copy(update={"resolution_0143_nm": None, "resolution_0500_nm": None})
    assert "never falls" in plots_of(record)["halves"].remark


@pytest.mark.parametrize(
    ("of", "said", "not_said"),
    [
        ("views", "half the angular sampling", "all tilts"),
        ("frames", "even and of the odd frames of every view: they have all tilts", "sampling"),
    ],
)
def test_what_the_halves_are_made_of_decides_what_is_said_of_them(record, make, of, said, not_said):
    record.halves = make.halves().model_copy(update={"of": of})
    remark = plots_of(record)["halves"].remark
    assert said in remark
    assert not_said not in remark
