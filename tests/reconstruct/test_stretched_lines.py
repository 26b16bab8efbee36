"""Tests of where the samples of stretched lines lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiltflow import geometry
from tiltflow.errors import ParameterError
from tiltflow.reconstruct.stretched_lines import SliceGrid, stretched_lines


@given(
    tilt=st.floats(-85, 85),
    nx=st.integers(2, 60),
    nz=st.integers(1, 40),
    width=st.integers(4, 60),
    centre=st.tuples(st.floats(-9, 9), st.floats(-9, 9)),
    axis=st.floats(-3, 3),
)
@settings(max_examples=60, deadline=None)
def test_every_voxel_meets_the_line_where_geometry_projects_it(
    tilt: float, nx: int, nz: int, width: int, centre: tuple[float, float], axis: float
) -> None:
    xz = SliceGrid(nx, nz, *centre)
    s = stretched_lines(np.array([tilt]), width, xz, width / 2 + axis)
    z, x = np.mgrid[:nz, :nx]
    sample = s.shift[0] + s.slope[0] * z + 2 * x
    assert sample.min() > -1e-6
    assert sample.max() < s.count[0] - 1
    points = np.stack([xz.x_first + x, 0 * x, xz.z_first - z], axis=-1).reshape(-1, 3)
    seen = geometry.project(points, tilt)[0, :, 0] + width / 2 + axis - 0.5
    np.testing.assert_allclose((s.start[0] + s.step[0] * sample).ravel(), seen, atol=1e-6)


def test_samples_inside_are_those_within_the_view() -> None:
    s = stretched_lines(np.array([-50.0, 0.0, 20.0]), 32, SliceGrid(64, 10))
    for v in range(3):
        at = s.start[v] + s.step[v] * np.arange(s.count[v])
        inside = np.zeros(len(at), bool)
        inside[slice(*s.inside[v])] = True
        np.testing.assert_array_equal(inside, (at > -1e-5) & (at < 31 + 1e-5))


def test_every_sample_within_the_view_lies_between_two_of_its_pixels() -> None:
    s = stretched_lines(np.array([-50.0, 0.0, 20.0]), 32, SliceGrid(64, 10), 17.3)
    for v in range(3):
        at = s.start[v] + s.step[v] * np.arange(*s.inside[v])
        k = np.arange(*s.inside[v])
        place = np.where(k % 2 == 0, s.even[v], s.odd[v]) + k // 2
        np.testing.assert_allclose(s.pixel[place] + s.fraction[place], at, atol=1e-5)
        assert s.pixel[place].max() <= 30
        assert -1e-5 < s.fraction[place].min() < s.fraction[place].max() < 1 + 1e-5


def test_even_and_odd_samples_of_all_views_have_places_of_their_own() -> None:
    s = stretched_lines(np.linspace(-70, 70, 9), 40, SliceGrid(40, 30))
    taken = np.zeros(s.length, int)
    for v in range(9):
        taken[s.even[v] : s.even[v] + (s.count[v] + 1) // 2] += 1
        taken[s.odd[v] : s.odd[v] + s.count[v] // 2] += 1
    assert taken.max() == 1


def test_a_view_from_the_side_is_refused() -> None:
    with pytest.raises(ParameterError, match="view 1 is tilted by -89"):
        stretched_lines(np.array([0.0, -89.0]), 32, SliceGrid(32, 8))
