"""Geometry, tested with points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltflow import geometry

angles = st.floats(-180, 180)
numbers = st.floats(-1000, 1000)


@st.composite
def transforms(draw):
    """Affine transforms that a microscope could need: any rotation, magnification and stretch within a factor of two."""
    turn = geometry.rotation(draw(angles))
    stretch = geometry.rotation(draw(angles)) @ np.diag([draw(st.floats(0.5, 2)), draw(st.floats(0.5, 2))])
    return geometry.transform(turn @ stretch, [draw(numbers), draw(numbers)])


points = st.tuples(numbers, numbers)


@given(transforms(), points)
def test_a_transform_and_its_inverse_bring_a_point_home(xf, point):
    np.testing.assert_allclose(geometry.apply(geometry.invert(xf), geometry.apply(xf, point)), point, atol=1e-6)


@given(transforms(), transforms(), points)
def test_a_composed_transform_does_first_one_then_the_other(first, then, point):
    one_by_one = geometry.apply(then, geometry.apply(first, point))
    np.testing.assert_allclose(geometry.apply(geometry.compose(first, then), point), one_by_one, atol=1e-6)


def test_rotation_is_counter_clockwise_with_y_up():
    np.testing.assert_allclose(geometry.rotation(90) @ [1, 0], [0, 1], atol=1e-12)


@given(st.floats(-89, 89), points)
def test_the_axis_angle_of_a_transform_is_the_one_it_was_made_from(angle, shift):
    xf = geometry.from_axis_and_shifts(angle, [shift])
    np.testing.assert_allclose(geometry.axis_angles(xf), [angle], atol=1e-9)


def test_a_point_on_the_tilt_axis_of_the_raw_view_lands_on_the_y_axis():
    axis = 12.0
    along = 100 * np.array([-np.sin(np.deg2rad(axis)), np.cos(np.deg2rad(axis))])  # y turned counter-clockwise
    shift = np.array([7.0, -3.0])
    xf = geometry.from_axis_and_shifts(axis, [shift])
    np.testing.assert_allclose(geometry.apply(xf, along + shift), [[0, 100]], atol=1e-9)


@pytest.mark.parametrize(
    ("tilt", "point", "seen"),
    [(0, (5, 2, 9), (5, 2)), (90, (5, 2, 9), (9, 2)), (-90, (5, 2, 9), (-9, 2)), (60, (10, 0, 0), (5, 0))],
)
def test_projection_of_known_points(tilt, point, seen):
    np.testing.assert_allclose(geometry.project(point, tilt), [[seen]], atol=1e-12)


def test_the_pitch_turns_the_levelled_volume_into_the_specimen():
    np.testing.assert_allclose(geometry.project([0, 10, 0], 0, pitch_deg=60), [[[0, 5]]], atol=1e-12)
    np.testing.assert_allclose(geometry.project([0, 10, 0], 90, pitch_deg=90), [[[10, 0]]], atol=1e-12)
