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


@given(transforms(), points)
def test_the_raw_shift_is_where_the_centre_of_the_aligned_image_lies_in_the_raw_view(xf, point):
    shift = geometry.raw_shifts(xf)
    np.testing.assert_allclose(geometry.apply(xf, shift), [0, 0], atol=1e-6)
    np.testing.assert_allclose(shift, -np.linalg.inv(xf[:, :2]) @ xf[:, 2], atol=1e-6)


@given(st.floats(-89, 89), points, st.floats(0.5, 2))
def test_a_rigid_transform_keeps_axis_and_raw_shift_and_nothing_of_the_magnification(angle, shift, magnification):
    exact = geometry.from_axis_and_shifts(angle, [shift])
    magnified = exact.copy()
    magnified *= magnification
    np.testing.assert_allclose(geometry.rigid(magnified), exact, atol=1e-6)


@given(angles, st.floats(-60, 60), st.tuples(numbers, numbers, numbers))
def test_the_projection_matrices_project(tilt, pitch, point):
    seen = geometry.projections(tilt, pitch)[0] @ point
    np.testing.assert_allclose(seen, geometry.project(point, tilt, pitch)[0, 0], atol=1e-6)


def test_an_xtilt_file_holds_the_negative_of_xaxistilt_and_is_read_so():
    np.testing.assert_array_equal(geometry.to_xtilt_file([-2.21, 0.0]), [2.21, 0.0])
    np.testing.assert_array_equal(geometry.from_xtilt_file([2.21, 0.0]), [-2.21, 0.0])
    assert geometry.from_xtilt_file(0.5, x_axis_tilt_deg=-2.0) == -2.5


def test_warp_counts_tilts_with_the_other_sign_and_a_rigid_transform_of_its_own_result_is_as_it_has_it():
    """Axis, offsets and transform of EMPIAR-10499 00254 at 10 Å a pixel, as Warp has them."""
    xf = geometry.transform([[0.9971855, -0.0749783], [0.0749783, 0.9971855]], [-27.094, -2.191])
    np.testing.assert_allclose(geometry.axis_angles(xf), -4.29997, atol=1e-5)
    np.testing.assert_allclose(geometry.raw_shifts(xf) * 10, [271.8202, 1.5337], atol=1e-3)
    np.testing.assert_array_equal(geometry.warp_angles([-60.0, 0.0]), [60.0, 0.0])
