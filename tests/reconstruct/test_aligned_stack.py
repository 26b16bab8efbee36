"""Tests of the aligned stack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiltflow import geometry
from tiltflow.errors import ParameterError
from tiltflow.formats.mrc import convert
from tiltflow.reconstruct.aligned_stack import StackParams, align_stack, align_view, aligned_shape


def inside_frame(shape: tuple[int, int], transform: np.ndarray, binning: int, margin: float) -> np.ndarray:
    """Where an aligned image sees the raw one, at least `margin` pixels from its edge (square images)."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    points = np.stack([x - shape[1] / 2, y - shape[0] / 2], axis=-1) * binning
    raw = geometry.apply(geometry.invert(transform), points) / binning
    return np.abs(raw).max(axis=-1) < shape[0] / 2 - margin


@pytest.mark.parametrize(
    ("binning", "name", "rows"), [(1, "bin1_rows_96_160", slice(96, 160)), (2, "bin2", slice(None)), (4, "bin4", slice(None))]
)
def test_cubic_interpolation_gives_the_grey_values_of_newstack_to_the_rounding(
    data: Path, binning: int, name: str, rows: slice
) -> None:
    golden = np.load(data / "reconstruct" / "aligned.npz")
    views = align_stack(golden["raw"], golden["transforms"], StackParams(binning=binning), threads=2)
    for view, transform, expected in zip(views, golden["transforms"], golden[name], strict=True):
        inside = inside_frame(view.shape, transform, binning, 2)[rows]
        difference = convert(view, np.int16)[rows].astype(float) - expected
        assert inside.mean() > 0.5
        assert np.abs(difference[inside]).max() <= 1
        assert (difference[inside] == 0).mean() > 0.99


def test_the_identity_changes_nothing(rng: np.random.Generator) -> None:
    raw = rng.normal(100, 10, (20, 30)).astype(np.float32)
    view = align_view(raw, geometry.transform(np.eye(2)), StackParams(), raw.shape)
    np.testing.assert_allclose(view, raw, rtol=1e-5)


@pytest.mark.parametrize("shape", [(64, 64), (65, 67)])
@pytest.mark.parametrize("binning", [1, 2, 3])
def test_a_point_lands_where_its_transform_says_for_any_size_and_binning(shape: tuple[int, int], binning: int) -> None:
    at = np.array([5.3, -7.6])
    transform = geometry.from_axis_and_shifts(-12.0, [3.7, -2.2])[0]
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    raw = np.exp(-((x - shape[1] / 2 - at[0]) ** 2 + (y - shape[0] / 2 - at[1]) ** 2) / (2 * 4.0**2))
    params = StackParams(binning=binning)
    view = align_view(raw, transform, params, aligned_shape(shape, params)).astype(float)
    y, x = np.mgrid[: view.shape[0], : view.shape[1]] + 0.5
    spot = np.maximum(view - view.mean() - 0.02, 0)
    found = np.array([(spot * x).sum(), (spot * y).sum()]) / spot.sum() - np.array(view.shape[::-1]) / 2
    np.testing.assert_allclose(found * binning, geometry.apply(transform, at), atol=0.05 * binning)


def test_where_the_raw_image_does_not_reach_the_view_goes_to_its_mean_over_the_taper() -> None:
    raw = np.full((64, 64), 10.0, np.float32)
    raw[:, :32] = 30.0
    shifted = geometry.transform(np.eye(2), [40.0, 0.0])
    view = align_view(raw, shifted, StackParams(taper_px=8), (64, 64))
    np.testing.assert_allclose(view[5, 42:60], 30.0, rtol=1e-5)
    assert view[5, 39] == pytest.approx(30.0)
    assert np.all(np.diff(view[5, 31:40]) > 0)
    np.testing.assert_allclose(view[5, :31], 20.0, rtol=1e-5)
    sharp = align_view(raw, shifted, StackParams(taper=False), (64, 64))
    np.testing.assert_allclose(sharp[5, :40], 20.0, rtol=1e-5)
    inside = align_view(raw, shifted, StackParams(taper_px=8, taper_inside=True), (64, 64))
    np.testing.assert_allclose(inside[30, :40], 20.0, rtol=1e-5)
    assert np.all(np.diff(inside[30, 39:47]) > 0)


def test_counts_never_become_negative_beside_a_hot_pixel() -> None:
    raw = np.full((32, 32), 50, np.int16)
    raw[16, 16] = 30000
    half = geometry.transform(np.eye(2), [0.5, 0.5])
    assert align_view(raw, half, StackParams(), (32, 32)).min() == 0
    assert align_view(raw - np.int16(100), half, StackParams(), (32, 32)).min() < -60


@given(
    angle=st.floats(-90, 90),
    shift=st.tuples(st.floats(-9, 9), st.floats(-9, 9)),
    slope=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
    linear=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_a_plane_of_grey_values_stays_a_plane(
    angle: float, shift: tuple[float, float], slope: tuple[float, float], linear: bool
) -> None:
    y, x = np.mgrid[:40, :40] + 0.5 - 20
    raw = 500 + slope[0] * x + slope[1] * y
    transform = geometry.from_axis_and_shifts(angle, shift)[0]
    view = align_view(raw, transform, StackParams(linear=linear), (40, 40))
    inside = inside_frame((40, 40), transform, 1, 2)
    source = geometry.apply(geometry.invert(transform), np.stack([x, y], axis=-1))
    expected = 500 + source @ np.array(slope)
    # The cubic of newstack (a = -1) is not exact for a slope: it strays by up to a tenth of it.
    tolerance = 0.02 if linear else 0.02 + 0.11 * (abs(slope[0]) + abs(slope[1]))
    np.testing.assert_allclose(view[inside], expected[inside], atol=tolerance)


def test_views_come_in_order_with_progress_whatever_the_threads(rng: np.random.Generator) -> None:
    stack = rng.integers(0, 1000, (7, 24, 24)).astype(np.int16)
    transforms = geometry.from_axis_and_shifts(5.0, rng.normal(0, 2, (7, 2)))
    heard: list[float] = []
    serial = list(align_stack(stack, transforms, StackParams(binning=2)))
    threaded = list(align_stack(stack, transforms, StackParams(binning=2), threads=3, progress=heard.append))
    np.testing.assert_array_equal(serial, threaded)
    assert heard == pytest.approx(np.arange(1, 8) / 7)


def test_bad_requests_are_refused_with_the_value_found(rng: np.random.Generator) -> None:
    stack = rng.normal(size=(3, 8, 8))
    with pytest.raises(ParameterError, match=r"\(2, 2, 3\) for a stack of 3 views"):
        list(align_stack(stack, np.zeros((2, 2, 3)), StackParams()))
    with pytest.raises(ParameterError, match="view 0 cannot be inverted"):
        list(align_stack(stack, np.zeros((3, 2, 3)), StackParams()))
    with pytest.raises(ParameterError, match="binning 0"):
        StackParams(binning=0)
    with pytest.raises(ParameterError, match="binning 9 leaves nothing"):
        aligned_shape((3, 8, 8), StackParams(binning=9))


def test_the_output_size_can_be_given() -> None:
    params = StackParams(binning=2, size_xy=(50, 30))
    assert aligned_shape((3, 64, 64), params) == (30, 50)
    view = align_view(np.ones((64, 64)), geometry.transform(np.eye(2)), params, (30, 50))
    np.testing.assert_allclose(view, 1.0)
