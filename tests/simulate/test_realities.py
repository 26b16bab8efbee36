"""Everything that may be wrong with a simulated series: each does what it says, and leaves the rest of the series as it is."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from tiltflow.demo import write_series
from tiltflow.errors import ParameterError
from tiltflow.formats.mrc import open_mrc
from tiltflow.formats.series import read_series
from tiltflow.simulate.exposure import behind_bar
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import score
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "simulation.md"
SMALL = SimulationParams(size=96, views=5, beads=6, thickness_px=20, crowding=0.3)
STEADY = replace(SMALL, axis_deg=0, rotation_jitter_deg=0, tilt_error_deg=0, magnification_jitter=0, shift_px=0, pitch_deg=0)


def darkness_at_beads(series: SimulatedSeries, view: int, xy: np.ndarray) -> float:
    """Return the mean of the counts at points over the median of the view."""
    x, y = np.floor(xy).astype(int).T
    inside = (x >= 0) & (x < series.truth.size) & (y >= 0) & (y < series.truth.size)
    return float(series.images[view][y[inside], x[inside]].mean() / np.median(series.images[view]))


@pytest.mark.parametrize(
    ("params", "means", "beads"),
    [
        (SMALL, (3264.31163194, 3513.16178385, 3563.04720052), 430.88187986),
        (
            replace(SMALL, regime="cryo", dose=60.0, two_surfaces=True, dropped_views=(1,), dark_views=(2,)),
            (3730.76009115, 3871.81738281, 128.36458333),
            599.48478165,
        ),
    ],
    ids=["plastic", "cryo"],
)
def test_a_series_without_oddities_is_what_it_always_was(params, means, beads):
    series = simulate(params)
    np.testing.assert_allclose(series.images.mean(axis=(1, 2))[:3], means, rtol=1e-5)
    assert np.abs(series.truth.beads_xy[0]).sum() == pytest.approx(beads)


@pytest.mark.parametrize(
    "oddity",
    [
        {"jumped_views": (1,)},
        {"foreign_views": (1,)},
        {"noise_views": (1,)},
        {"dead_areas": ((3, 0, 1, 96),)},
        {"stored": "float32", "nan_pixels": 5},
        {"bar_px": 60.0, "bar_depth_px": 40.0},
    ],
    ids=str,
)
def test_an_oddity_leaves_the_rest_of_the_series_as_it_is(oddity):
    plain, odd = simulate(SMALL), simulate(replace(SMALL, **oddity))
    changed = ~(np.abs(odd.images[2] - plain.images[2].astype(float)) <= 1)
    assert np.count_nonzero(changed) <= 96
    np.testing.assert_array_equal(odd.truth.beads_px, plain.truth.beads_px)


@pytest.mark.parametrize("kind", ["growing", "by view"])
def test_a_specimen_that_deforms_is_seen_where_the_truth_says(kind):
    rigid, soft = simulate(STEADY), simulate(replace(STEADY, deformation_px=12.0, deformation=kind))
    moved = soft.truth.beads_xy - rigid.truth.beads_xy
    assert 3 < np.abs(moved).max() <= 12
    farthest = int(np.linalg.norm(moved, axis=2).mean(axis=1).argmax())
    there, elsewhere = (darkness_at_beads(soft, farthest, truth.beads_xy[farthest]) for truth in (soft.truth, rigid.truth))
    assert there < 0.75
    assert elsewhere > there + 0.1


def test_a_growing_deformation_grows_and_one_by_view_does_not():
    def amounts(kind):
        moved = [simulate(replace(STEADY, deformation_px=p, deformation=kind)).truth.beads_xy for p in (1e-9, 12.0)]
        return np.linalg.norm(moved[1] - moved[0], axis=2).mean(axis=1)

    growing, changing = amounts("growing"), amounts("by view")
    assert growing[0] < 1e-6
    assert np.all(np.diff(growing[:3]) > 0)
    assert changing[0] > 1


def test_no_point_is_displaced_farther_than_asked():
    from tiltflow.simulate.deformation import deformation

    points = np.random.default_rng(1).uniform(-100, 100, (500, 3))
    for kind in ("growing", "by view"):
        field = deformation(replace(SMALL, deformation_px=7.0, deformation=kind), 5)
        distances = [np.linalg.norm(field.moved(points, view) - points, axis=1).max() for view in range(5)]
        assert 2 < max(distances) <= 7


def test_a_deformation_is_an_error_that_no_rigid_alignment_removes():
    truth = simulate(replace(SMALL, deformation_px=8.0, deformation="by view")).truth
    assert score(truth, truth.transforms(), truth.true_deg).rms_px > 0.5


def test_a_particle_lies_alone_in_the_centre_and_is_scored_within_itself():
    series = simulate(replace(STEADY, beads=0, particle_px=40.0, hot_pixels=0))
    image = series.images[2].astype(float)
    y, x = np.mgrid[:96, :96] - 47.5
    inside, outside = np.hypot(x, y) < 15, np.hypot(x, y) > 24
    assert image[inside].mean() < 0.9 * image[outside].mean()
    assert image[outside].std() < 0.1 * image[outside].mean()
    assert np.hypot(*(series.truth.probes_xy[2] - 48).T).max() < 20


def test_a_lattice_has_its_pitch():
    series = simulate(replace(STEADY, size=128, beads=0, lattice_px=12.0, hot_pixels=0, dose=4000.0))
    image = series.images[2].astype(float)
    spectrum = np.abs(np.fft.fft2(image - image.mean()))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    strongest = np.argsort(np.where(frequency > 0.03, spectrum, 0).ravel())[-4:]
    np.testing.assert_allclose(frequency.ravel()[strongest], 1 / 12, atol=0.5 / 128 * np.sqrt(2))


def test_a_ring_detector_shows_gold_light_on_dark():
    series = simulate(replace(SMALL, regime="haadf"))
    assert darkness_at_beads(series, 2, series.truth.beads_xy[2]) > 1.5
    level = np.median(series.images, axis=(1, 2))
    assert level[0] > level[2]  # the path through the section is longer


def test_a_jump_is_in_one_view_and_in_the_truth():
    plain, jumped = simulate(SMALL), simulate(replace(SMALL, jumped_views=(3,), jump_px=25.0))
    moved = np.linalg.norm(jumped.truth.shift_px - plain.truth.shift_px, axis=1)
    np.testing.assert_allclose(moved, [0, 0, 0, 25, 0])
    assert darkness_at_beads(jumped, 3, jumped.truth.beads_xy[3]) < 0.8
    assert score(jumped.truth, jumped.truth.transforms(), jumped.truth.true_deg).rms_px < 1e-9


def test_foreign_and_noise_views_show_nothing_of_the_specimen_and_are_not_scored():
    series = simulate(replace(SMALL, foreign_views=(1,), noise_views=(3,), hot_pixels=0))
    truth = series.truth
    assert darkness_at_beads(series, 2, truth.beads_xy[2]) < 0.8
    for view in (1, 3):
        assert darkness_at_beads(series, view, truth.beads_xy[view]) > 0.9
    assert series.images[1].min() < 0.5 * np.median(series.images[1])  # other gold
    assert series.images[3].min() > 0.7 * np.median(series.images[3])
    transforms = truth.transforms()
    transforms[[1, 3], :, 2] += 40.0
    assert score(truth, transforms, truth.true_deg).rms_px < 1e-9


def test_wrapped_counts_are_those_of_sixteen_bits_read_with_a_sign():
    images = simulate(replace(SMALL, stored="wrapped")).images
    counts = images.view(np.uint16)
    assert images.dtype == np.int16
    assert images[2].mean() < 0
    assert np.abs(np.diff(counts.astype(int), axis=2)).mean() < 6000
    assert 40_000 < np.median(counts[2]) < 60_000


def test_eight_bits_are_spread_over_the_series_and_saturate_as_asked():
    images = simulate(replace(SMALL, stored="uint8", saturated=0.05)).images
    assert images.dtype == np.uint8
    for value in (0, 255):
        assert np.mean(images == value) == pytest.approx(0.05, abs=0.01)


def test_pixels_that_are_no_numbers_lie_elsewhere_in_each_view():
    images = simulate(replace(SMALL, stored="float32", nan_pixels=7)).images
    gone = np.isnan(images)
    np.testing.assert_array_equal(gone.sum(axis=(1, 2)), 7)
    assert np.count_nonzero(gone[0] & gone[1]) < 7


def test_dead_and_hot_areas_are_the_same_in_all_views():
    series = simulate(replace(SMALL, dead_areas=((10, 0, 1, 96),), hot_areas=((50, 60, 4, 3),), hot_pixels=0))
    assert np.all(series.images[:, :, 10] == 0)
    assert np.all(series.images[:, 60:63, 50:54] == 32_000)
    assert np.count_nonzero(series.images == 32_000) == 5 * 12


def test_a_beam_that_drifts_is_dimmer_in_the_last_view():
    ratio = [simulate(replace(SMALL, beam_drift=drift)).images.mean(axis=(1, 2)) for drift in (0.0, 0.4)]
    np.testing.assert_allclose(ratio[1] / ratio[0], [1, 0.9, 0.8, 0.7, 0.6], rtol=0.01)


def test_a_bar_of_the_grid_moves_with_the_specimen_and_covers_more_on_one_side():
    params = replace(STEADY, bar_px=60.0, bar_depth_px=40.0)
    series = simulate(params)
    covered = [float(behind_bar(view, series.truth, params).mean()) for view in range(5)]
    assert covered[2] == 0  # 60 pixels are beyond the field of 48 to either side
    edge = 60 * np.cos(np.pi / 3)
    assert covered[0] == pytest.approx((48 - edge) / 96, abs=0.01)
    assert covered[4] == pytest.approx((48 - edge + 40 * np.sin(np.pi / 3)) / 96, abs=0.01)
    behind = behind_bar(4, series.truth, params)
    assert series.images[4][behind].mean() < 0.1 * series.images[4][~behind].mean()
    mirrored = replace(params, bar_px=-60.0)
    assert behind_bar(0, series.truth, mirrored).mean() == pytest.approx(covered[4], abs=0.01)


def test_a_header_that_tells_no_axis_is_read_as_such(tmp_path):
    series = simulate(replace(SMALL, axis_told=False))
    assert series.header_axis_deg == 0
    write_series(tmp_path / "B.st", series)
    read = read_series(tmp_path / "B.st")
    assert any("no source gives the tilt axis angle" in str(problem) for problem in read.problems)
    write_series(tmp_path / "C.st", simulate(SMALL))
    assert read_series(tmp_path / "C.st").axis_angle_deg == -8


@pytest.mark.parametrize("stored", ["wrapped", "uint8", "float32"])
def test_series_are_written_as_they_are_stored(tmp_path, stored):
    series = simulate(replace(SMALL, stored=stored))
    write_series(tmp_path / "B.st", series)
    with open_mrc(tmp_path / "B.st") as stack:
        read = np.asarray(stack[2])
    np.testing.assert_array_equal(read.astype(float) % 65_536, series.images[2].astype(float) % 65_536)


@pytest.mark.parametrize(
    ("asked", "said"), [({"nan_pixels": 3}, "float32"), ({"beam_drift": 1.0}, "1.0"), ({"saturated": 0.5}, "0.5")], ids=str
)
def test_what_cannot_be_is_refused(asked, said):
    with pytest.raises(ParameterError, match=said):
        replace(SMALL, **asked)


def test_the_page_on_simulations_names_every_parameter():
    page = PAGE.read_text(encoding="utf-8")
    assert [field.name for field in fields(SimulationParams) if f"`{field.name}`" not in page] == []
