"""Stretched views of specimens that are known point by point."""

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.align.projection.stretched_views import Frame, StretchedViews, ViewGeometry
from tiltflow.preprocess.binned_views import BinnedViews

SIZE, BINNING = 96, 2
TILTS = np.deg2rad([-50.0, 0.0, 35.0])


def geometry_of(axis_deg=20.0, slope=0.0):
    shifts = np.array([[9.0, -5.0], [0.0, 0.0], [-12.0, 6.0]])
    matrices = np.stack([geometry.rotation(axis_deg) * m for m in (1.01, 1.0, 0.99)])
    return ViewGeometry(matrices, shifts, TILTS, slope)


def views_of(points, where):
    """Binned views of Gaussian blobs at specimen positions x, y, z, raw pixels."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    images = np.zeros((len(TILTS), SIZE, SIZE), np.float32)
    for view, tilt in enumerate(TILTS):
        for px, py, pz in points:
            u, v = px * np.cos(tilt) + pz * np.sin(tilt), py
            at = (where.matrices[view] @ [u, v] + where.shifts[view]) / BINNING + SIZE / 2
            images[view] += np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 1.8**2))
    return BinnedViews(images, BINNING, (SIZE * BINNING, SIZE * BINNING))


def centre_of_mass(image, frame):
    y, x = frame.coordinates()
    return np.array([np.sum(image * x), np.sum(image * y)]) / image.sum() * frame.pixel


@pytest.mark.parametrize("point", [(20.0, -15.0, 0.0), (-10.0, 22.0, 14.0)])
def test_a_point_is_displaced_along_x_by_its_height_and_the_tangent_of_the_tilt(point):
    where = geometry_of()
    views = views_of([point], where)
    frame = Frame.around(views, 20.0, (1.3, 1.3))
    stretched = StretchedViews(views, frame, 6.0)
    for view, tilt in enumerate(TILTS):
        image, _ = stretched.sample(view, where)
        expected = point[0] + point[2] * np.tan(tilt), point[1]
        np.testing.assert_allclose(centre_of_mass(image, frame), expected, atol=0.1)


def test_a_point_on_the_sloping_plane_stays_in_place():
    where, slope = geometry_of(slope=0.2), 0.2
    point = (15.0, 30.0, 30.0 * slope)
    views = views_of([point], where)
    frame = Frame.around(views, 20.0, (1.3, 1.3))
    for view in range(len(TILTS)):
        image, _ = StretchedViews(views, frame, 6.0).sample(view, where)
        np.testing.assert_allclose(centre_of_mass(image, frame), point[:2], atol=0.1)


def test_densities_are_those_along_rays_perpendicular_to_the_section():
    """A blob is stretched by 1 / cos t and weighed by cos t: its integral is that of the untilted view."""
    where = geometry_of()
    views = views_of([(5.0, 5.0, 0.0)], where)
    frame = Frame.around(views, 20.0, (1.3, 1.3))
    sums = [StretchedViews(views, frame, 6.0).sample(view, where)[0].sum() for view in range(3)]
    assert sums[0] == pytest.approx(sums[1], rel=0.03)
    assert sums[2] == pytest.approx(sums[1], rel=0.03)


def test_the_weight_is_1_in_the_field_and_0_where_the_shift_brings_none():
    where = ViewGeometry(np.eye(2)[None], np.array([[60.0, 0.0]]), np.zeros(1))
    views = BinnedViews(np.ones((1, SIZE, SIZE), np.float32), BINNING, (SIZE * BINNING,) * 2)
    frame = Frame.around(views, 0.0, (1.0, 1.0))
    image, weight = StretchedViews(views, frame, 4.0).sample(0, where)
    assert weight[frame.shape[0] // 2, frame.shape[1] // 4] == 1
    assert weight[:, -28:].max() == 0  # 60 raw pixels are 30 of the frame
    np.testing.assert_allclose(image[weight > 0], 1.0, atol=1e-4)


def test_transforms_and_geometry_are_the_same_thing(rng):
    where = geometry_of()
    again = ViewGeometry.from_transforms(where.transforms, np.rad2deg(TILTS))
    np.testing.assert_allclose(again.matrices, where.matrices, atol=1e-12)
    np.testing.assert_allclose(again.shifts, where.shifts, atol=1e-9)
    assert again.axis_deg == pytest.approx(20.0)
    some = where.of(np.array([2, 0]))
    np.testing.assert_array_equal(some.shifts, where.shifts[[2, 0]])


def test_content_that_lies_farther_moves_in_the_direction_of_the_aligned_axes():
    where = geometry_of(axis_deg=90.0)
    moved = where.displaced(np.tile([3.0, 0.0], (3, 1)))
    np.testing.assert_allclose(moved.shifts[1] - where.shifts[1], [0.0, 3.0], atol=1e-12)


def test_a_frame_holds_the_field_under_any_axis():
    views = BinnedViews(np.zeros((1, 60, 100), np.float32), 4, (240, 400))
    upright, turned = (Frame.around(views, angle, (1.25, 1.25)) for angle in (0.0, 90.0))
    assert upright.field == pytest.approx((60, 100))
    assert turned.field == pytest.approx((100, 60))
    assert all(shape >= 1.2 * field for shape, field in zip(upright.shape, upright.field, strict=True))
    window = upright.window(0.1)
    assert window.max() == pytest.approx(1)
    assert window[0].max() == pytest.approx(0)
