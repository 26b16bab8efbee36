"""Specimens that repeat themselves: which of many nearly equal peaks is taken, and when it is not known."""

from dataclasses import replace

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.align import fallback, methods
from tiltflow.align.coarse.lattice import Lattice, find_peaks, place_on_lattice
from tiltflow.align.coarse.overlap import Overlap
from tiltflow.align.coarse.params import CoarseParams
from tiltflow.align.coarse.placement import align_coarse
from tiltflow.align.fallback import align_views
from tiltflow.align.methods import AlignParams
from tiltflow.align.projection.stretched_views import ViewGeometry
from tiltflow.errors import StageError
from tiltflow.preprocess.binned_views import read_binned

AXIS_DEG, PITCH_PX, SIZE = 85.0, 12.0, 128
TILTS = np.linspace(-60, 60, 15)


def film(*, vacancies, spots=None, more=0, seed=3, walk_px=8.0):
    """A thin film of round particles on a square lattice, or spots anywhere, or more of them beside, in views moved by random steps.

    Returns the images, and the move of each.
    """
    rng = np.random.default_rng(seed)
    i, j = np.meshgrid(np.arange(-16, 17), np.arange(-16, 17))
    points = np.stack([i.ravel(), j.ravel()], axis=1) * PITCH_PX + rng.normal(0, 0.3, (i.size, 2))
    points = points[rng.random(len(points)) > vacancies]
    if spots is not None:
        points = rng.uniform(-16, 16, (spots, 2)) * PITCH_PX
    points = np.concatenate([points, rng.uniform(-16, 16, (more, 2)) * PITCH_PX])
    moves = np.cumsum(rng.normal(0, walk_px, (len(TILTS), 2)), axis=0)
    moves -= moves[len(TILTS) // 2]
    axis, (y, x) = geometry.rotation(AXIS_DEG), np.mgrid[:SIZE, :SIZE] + 0.5
    images = []
    for tilt, move in zip(np.deg2rad(TILTS), moves, strict=True):
        seen = (points * [np.cos(tilt), 1.0]) @ axis.T + move + SIZE / 2
        density = np.zeros((SIZE, SIZE))
        for px, py in seen[(np.abs(seen - SIZE / 2) < SIZE / 2 + 8).all(axis=1)]:
            density += np.exp(-((x - px) ** 2)[:1] / 9.7) * np.exp(-((y - py) ** 2)[:, :1] / 9.7)
        images.append(rng.poisson(400 * np.exp(-0.12 / np.cos(tilt) - 0.35 * density)) * 10.0)
    return np.array(images, np.float32), moves


@pytest.fixture(scope="module")
def lattice_series():
    return film(vacancies=0.05)


def start_of(views):
    return ViewGeometry(np.array([geometry.rotation(AXIS_DEG)] * views), np.zeros((views, 2)), np.deg2rad(TILTS[:views]))


def test_steps_as_long_as_the_spacing_do_not_lead_to_another_lattice_point(lattice_series):
    images, moves = lattice_series
    found = align_coarse(images, TILTS, AXIS_DEG, params=CoarseParams(find_axis=False))
    assert found.lattice is not None
    assert found.lattice.spacing_px == pytest.approx(PITCH_PX, abs=1.5)
    assert np.abs(found.shifts_px - moves).max() < 2.0  # found without the lattice: a spacing off in part of the series
    assert not found.lattice.doubts()


def test_a_lattice_without_any_irregularity_is_doubted_and_its_views_are_named():
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:SIZE, :SIZE]
    perfect = np.cos(2 * np.pi * x / PITCH_PX) * np.cos(2 * np.pi * y / PITCH_PX) + rng.normal(0, 0.2, (6, SIZE, SIZE))
    where = ViewGeometry(np.array([geometry.rotation(0.0)] * 6), np.zeros((6, 2)), np.zeros(6))
    placed, _ = place_on_lattice(read_binned(perfect.astype(np.float32), np.arange(6), SIZE), where)
    assert placed is not None
    assert Lattice.of(placed, np.arange(6)).doubts()[0].endswith("views 1 and 2, 2 and 3, 3 and 4, 4 and 5, 5 and 6")


def test_what_does_not_repeat_itself_is_placed_as_it_was(textured):
    images, _ = film(vacancies=0.0, spots=300)
    assert place_on_lattice(read_binned(images, np.arange(len(TILTS)), SIZE), start_of(len(TILTS))) == (None, "")
    views = read_binned(textured.images, np.arange(25), SIZE)
    start = ViewGeometry(
        np.array([geometry.rotation(textured.header_axis_deg)] * 25), np.zeros((25, 2)), np.deg2rad(textured.nominal_deg)
    )
    assert place_on_lattice(views, start) == (None, "")


def test_what_may_repeat_itself_is_not_placed_on_a_lattice_but_doubted():
    """A lattice among other things: its second peak is lower, and views may be a spacing away nevertheless."""
    mixed, _ = film(vacancies=0.25, more=300)
    placed, doubt = place_on_lattice(read_binned(mixed, np.arange(len(TILTS)), SIZE), start_of(len(TILTS)))
    assert placed is None
    assert doubt.startswith("the specimen may repeat itself: ")
    assert align_coarse(mixed, TILTS, AXIS_DEG, params=CoarseParams(find_axis=False)).place_doubt == doubt


def test_an_alignment_that_jumps_by_a_spacing_contradicts_the_lattice(lattice_series):
    _, moves = lattice_series
    lattice = Lattice(PITCH_PX, np.arange(len(TILTS)), moves, np.zeros((0, 2), int))
    included = np.ones(len(TILTS), bool)
    sound = geometry.from_axis_and_shifts(AXIS_DEG, moves + 1.0)
    assert lattice.contradictions(sound, TILTS, included) == ()
    for along in ([0.0, PITCH_PX], [PITCH_PX * np.cos(np.deg2rad(TILTS[3])), 0.0]):
        jumped = moves.copy()
        jumped[:3] += geometry.rotation(AXIS_DEG) @ along
        (said,) = lattice.contradictions(geometry.from_axis_and_shifts(AXIS_DEG, jumped), TILTS, included)
        assert said.endswith("where their correlation is highest: views 3 and 4")


def test_where_lattice_points_cannot_be_told_apart_no_error_is_claimed(lattice_series, monkeypatch):
    images, _ = lattice_series
    params = AlignParams(method="coarse", coarse=CoarseParams(find_axis=False))
    found = align_coarse(images, TILTS, AXIS_DEG, params=params.coarse)
    doubtful = replace(found, lattice=replace(found.lattice, doubtful=np.array([[4, 5]])))
    monkeypatch.setattr(fallback, "place_coarsely", lambda *args, **_named: doubtful)
    evidence = align_views(images, TILTS, AXIS_DEG, 10.0, replace(params, method="patches", fallback=False)).evidence
    assert (evidence.error_px, evidence.leave_out_px) == (None, None)
    assert any("views 5 and 6" in warning for warning in evidence.trust_warnings)
    assert all("error_px" not in attempt for attempt in evidence.attempts)


def test_a_peak_over_most_of_the_field_outweighs_one_hardly_higher_over_a_part_of_it():
    coefficients, shared = np.zeros((64, 64), np.float32), np.full((64, 64), 0.9, np.float32)
    for place in np.ndindex(5, 5):
        coefficients[place[0] * 12 + 4, place[1] * 12 + 4] = 0.80 + 0.005 * ((place[0] + place[1]) % 2)
    coefficients[16, 16], coefficients[52, 52] = 0.86, 0.87
    assert find_peaks(Overlap(coefficients, shared)).places[0].tolist() == [-12, -12]
    shared[52, 52] = 0.3
    assert find_peaks(Overlap(coefficients, shared)).places[0].tolist() == [16, 16]


@pytest.mark.parametrize("periodic", [True, False])
def test_patches_of_a_lattice_leave_out_the_passes_that_could_lead_off_it(lattice_series, monkeypatch, periodic):
    images, _ = lattice_series
    params = AlignParams(method="patches", fallback=False, coarse=CoarseParams(find_axis=False))
    found = align_coarse(images, TILTS, AXIS_DEG, params=params.coarse)
    heard = {}

    def track(*given, **asked):
        heard.update(asked)
        raise StageError("enough")

    monkeypatch.setattr(fallback, "place_coarsely", lambda *args, **_named: found if periodic else replace(found, lattice=None))
    monkeypatch.setattr(methods, "track_patches", track)
    with pytest.raises(StageError, match="enough"):
        align_views(images, TILTS, AXIS_DEG, 10.0, params)
    assert heard["in_place"] is periodic


def test_patches_stay_on_the_lattice_point_that_they_start_from(lattice_series):
    images, moves = lattice_series
    found = align_views(images, TILTS, AXIS_DEG, 10.0, AlignParams(method="patches", coarse=CoarseParams(find_axis=False)))
    away = geometry.invert(found.transforms)[..., 2] - moves
    assert np.abs(np.diff(away, axis=0)).max() < PITCH_PX / 3
    assert not found.evidence.trust_warnings
