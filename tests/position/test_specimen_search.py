"""Tests of finding the specimen in the volume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from tiltflow.errors import ParameterError
from tiltflow.position.specimen_search import PositionParams, position_section
from tiltflow.reconstruct.aligned_stack import StackParams, align_stack
from tiltflow.reconstruct.wbp import ReconstructParams
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate

PITCH, LIFT, THICKNESS = 4.0, 15.0, 60.0
PARAMS = PositionParams(sample_type=1, thickness=140)


@pytest.fixture(scope="module")
def series() -> tuple[np.ndarray, np.ndarray]:
    """A pitched, lifted section with gold on one surface, aligned without error: views at binning 2, and tilts."""
    params = SimulationParams(
        seed=4, size=224, views=21, thickness_px=THICKNESS, pitch_deg=PITCH, z_offset_px=LIFT, beads=15, crowding=3.0, hot_pixels=0
    )
    simulated = simulate(params, threads=2)
    views = align_stack(simulated.images, simulated.truth.transforms(), StackParams(binning=2), threads=2)
    return np.array(list(views)), simulated.truth.true_deg


def test_a_pitched_and_lifted_section_is_found(series: tuple[np.ndarray, np.ndarray]) -> None:
    views, tilt = series
    found = position_section(views, tilt, PARAMS, binning=2, threads=2)
    assert found.confident, found.reason
    assert found.beads >= 10
    assert found.x_axis_tilt_deg == pytest.approx(-PITCH, abs=0.5)
    assert found.tilt_offset_deg == pytest.approx(0, abs=0.5)
    assert found.z_shift == pytest.approx(LIFT, abs=4)
    assert found.thickness == pytest.approx(THICKNESS, rel=0.1)


def test_without_gold_it_is_right_or_not_trusted(series: tuple[np.ndarray, np.ndarray]) -> None:
    views, tilt = series
    found = position_section(views, tilt, replace(PARAMS, has_gold_beads=False), binning=2, threads=2)
    assert found.beads == 0
    if found.confident:
        assert found.x_axis_tilt_deg == pytest.approx(-PITCH, abs=3 * found.pitch_error_deg)
        assert found.z_shift == pytest.approx(LIFT, abs=4)
    else:
        assert "differ" in found.reason


def test_the_changes_asked_for_level_and_centre_the_section(series: tuple[np.ndarray, np.ndarray]) -> None:
    views, tilt = series
    turned = tilt - 3.0
    first = position_section(views, turned, PARAMS, binning=2, threads=2)
    assert first.tilt_offset_deg == pytest.approx(3.0, abs=0.5)
    base = ReconstructParams(
        thickness=140, offset_deg=first.tilt_offset_deg, x_axis_tilt_deg=first.x_axis_tilt_deg, shift_z=first.z_shift
    )
    second = position_section(views, turned, PARAMS, binning=2, base=base, threads=2)
    assert second.confident, second.reason
    assert second.tilt_offset_deg == pytest.approx(0, abs=0.3)
    assert second.x_axis_tilt_deg == pytest.approx(0, abs=0.3)
    assert second.z_shift == pytest.approx(0, abs=2)


def test_noise_is_left_where_it_is(rng: np.random.Generator) -> None:
    views = ndimage.gaussian_filter(rng.normal(1000, 100, (21, 96, 96)), (0, 0.6, 0.6)).astype(np.float32)
    found = position_section(views, np.linspace(-60, 60, 21), PositionParams(sample_type=2, thickness=80), binning=2)
    assert not found.confident
    assert "nothing was changed" in found.reason
    assert (found.tilt_offset_deg, found.x_axis_tilt_deg, found.z_shift) == (0, 0, 0)
    assert found.thickness in {80, 160}


def test_a_section_that_reaches_the_ends_is_found_in_a_thicker_volume(series: tuple[np.ndarray, np.ndarray]) -> None:
    views, tilt = series
    found = position_section(views, tilt, replace(PARAMS, thickness=84), binning=2)
    assert found.confident, found.reason
    assert found.z_shift == pytest.approx(LIFT, abs=4)
    assert found.thickness == pytest.approx(THICKNESS, rel=0.1)


def test_a_volume_far_too_thin_for_the_section_is_not_trusted(series: tuple[np.ndarray, np.ndarray]) -> None:
    views, tilt = series
    found = position_section(views, tilt, replace(PARAMS, thickness=48), binning=2)
    assert not found.confident
    assert "nothing was changed" in found.reason
    assert (found.tilt_offset_deg, found.x_axis_tilt_deg, found.z_shift, found.thickness) == (0, 0, 0, 96)


def test_blank_views_hold_no_section() -> None:
    blank = np.full((15, 64, 64), 700, np.float32)
    found = position_section(blank, np.linspace(-56, 56, 15), PositionParams(sample_type=1, thickness=120), binning=2)
    assert not found.confident
    assert "does not stand out" in found.reason


def test_an_unknown_sample_type_is_refused() -> None:
    with pytest.raises(ParameterError, match="sample type 5"):
        PositionParams(sample_type=5)
