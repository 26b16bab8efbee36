"""The estimated error of an alignment, and its trust warnings."""

from types import SimpleNamespace

import numpy as np
import pytest

from tiltflow.align.projection.matching import PARAMETERS
from tiltflow.align.projection.posterior import FreeParameters
from tiltflow.align.projection.projection_fit import ProjectionFit
from tiltflow.align.projection.stretched_views import ViewGeometry
from tiltflow.align.projection.uncertainty import blurring, expected_error_px, trust_warnings
from tiltflow.preprocess.binned_views import read_binned

TILTS = np.deg2rad(np.linspace(-60, 60, 21))
SOUND = np.full(21, 30.0)


@pytest.fixture
def fit():
    """As much of a fit as the displacements need: tilts, the field and the thickness."""
    return SimpleNamespace(
        where=SimpleNamespace(tilts=TILTS), frame=SimpleNamespace(field=(100.0, 120.0)), model=SimpleNamespace(thickness=30.0)
    )


def changes(**by_kind):
    kinds = ("dx", "dy", "turn", "growth", "tilt", "slope")
    change = np.zeros((1, len(TILTS), PARAMETERS))
    for name, values in by_kind.items():
        change[0, :, kinds.index(name)] = values
    return change


def rms(displacements):
    return float(np.sqrt(np.mean(np.sum(displacements**2, axis=-1))))


def test_a_shift_of_the_whole_specimen_blurs_nothing(fit):
    along_x, up = 2.0, 5.0
    assert rms(blurring(fit, changes(dx=along_x + up * np.tan(TILTS), dy=-3.0))) < 1e-9


def test_an_offset_of_all_tilts_blurs_nothing(fit):
    assert rms(blurring(fit, changes(tilt=0.01))) < 1e-9


def test_the_shifts_of_single_views_blur_by_their_scatter(fit, rng):
    shake = rng.normal(0, 0.3, len(TILTS))
    assert rms(blurring(fit, changes(dy=shake))) == pytest.approx(shake.std(), rel=1e-6)
    shake = np.zeros(len(TILTS))
    shake[10] = 1.0  # at zero tilt, where pixels of the frame are those of the view
    assert np.abs(blurring(fit, changes(dx=shake))[0, 10, :, 0]).max() == pytest.approx(1.0, abs=0.1)


def test_rotation_and_magnification_blur_towards_the_edges(fit):
    for kind in ("turn", "growth"):
        shake = np.zeros(len(TILTS))
        shake[10] = 0.01
        displaced = np.hypot(*np.moveaxis(blurring(fit, changes(**{kind: shake}))[0, 10], -1, 0))
        assert displaced.max() == pytest.approx(0.01 * np.hypot(40, 48), rel=0.15)
        assert displaced.min() < 0.02


def test_the_error_of_a_fit_to_noise_is_larger_than_that_of_a_fit_to_a_specimen(textured, empty):
    errors = []
    for series in (textured, empty):
        views = read_binned(series.images, np.arange(25), 64, threads=2)
        where = ViewGeometry.from_transforms(series.truth.transforms(), series.truth.true_deg)
        fit = ProjectionFit(views, where, 60.0, threads=2)
        step = fit.step(FreeParameters(), em_iterations=3)
        error, per_view = expected_error_px(fit, step, FreeParameters())
        assert error == pytest.approx(np.sqrt(np.mean(per_view**2)))
        errors.append(error)
    assert errors[1] > 3 * errors[0]


@pytest.mark.parametrize(
    ("heights", "error_px", "change_deg", "word"),
    [
        (np.full(21, 4.0), 0.1, np.zeros(21), "correlate weakly"),
        (np.where(np.arange(21) < 3, 4.0, 30.0), 0.1, np.zeros(21), "3 of 21 views"),
        (SOUND, np.nan, np.zeros(21), "not known"),
        (SOUND, 1.4, np.zeros(21), "1.40 px"),
        (SOUND, 0.1, np.tile([-3.0, 0.0, 3.0], 7), "order"),
    ],
)
def test_each_trust_warning_is_given(heights, error_px, change_deg, word):
    assert word in " ".join(trust_warnings(heights, error_px, change_deg, 1.0))


def test_a_sound_alignment_raises_no_warning():
    offset = 2.0 + 0.5 * np.sin(np.arange(21))  # a common offset levels the specimen
    assert trust_warnings(SOUND, 0.1, offset, 1.0) == ()
