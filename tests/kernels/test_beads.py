"""Each kernel against the same thing in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tiltflow.kernels import beads as kernel


@pytest.fixture
def image(rng: np.random.Generator) -> np.ndarray:
    return ndimage.gaussian_filter(rng.normal(size=(60, 75)), 1.5).astype(np.float32)


def _disc(radius: float) -> np.ndarray:
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return x**2 + y**2 <= radius**2


def test_maxima_are_those_of_a_maximum_filter(image: np.ndarray) -> None:
    out = np.empty((500, 2), np.int32)
    count = kernel.local_maxima(image, 0.1, 4.5, 6, out)
    highest = (image == ndimage.maximum_filter(image, footprint=_disc(4.5), mode="constant", cval=-9)) & (image >= 0.1)
    highest[:6] = highest[-6:] = highest[:, :6] = highest[:, -6:] = False
    assert count > 5
    np.testing.assert_array_equal(out[:count], np.argwhere(highest))


def test_of_equal_neighbours_one_is_the_maximum() -> None:
    flat = np.zeros((20, 20), np.float32)
    flat[10, 9:12] = 1.0
    out = np.empty((9, 2), np.int32)
    assert kernel.local_maxima(flat, 0.5, 3.0, 2, out) == 1


def test_maxima_beyond_the_room_for_them_are_left_out(image: np.ndarray) -> None:
    out = np.empty((3, 2), np.int32)
    assert kernel.local_maxima(image, 0.0, 3.0, 2, out) == 3


def test_the_scale_of_a_ring_is_its_mean_of_clipped_magnitudes(image: np.ndarray) -> None:
    y, x = np.mgrid[:60, :75]
    r2 = (y - 20) ** 2 + (x - 3) ** 2
    ring = (r2 >= 4.0**2) & (r2 <= 9.0**2)
    expected = np.minimum(np.abs(image[ring]), 0.2).mean()
    assert kernel.ring_scale(image, 20, 3, 4.0, 9.0, 0.2) == pytest.approx(expected, rel=1e-5)


def test_discs_are_blanked_once(image: np.ndarray) -> None:
    xy = np.array([[20.5, 30.5], [23.0, 31.0], [0.5, 0.5]])
    y, x = np.mgrid[:60, :75] + 0.5
    inside = np.zeros(image.shape, bool)
    for px, py in xy:
        inside |= (x - px) ** 2 + (y - py) ** 2 <= 4.2**2
    blanked = image.copy()
    assert kernel.blank_discs(blanked, xy, 4.2, np.float32(2.5)) == inside.sum()
    np.testing.assert_array_equal(blanked, np.where(inside, 2.5, image))


def test_radial_power_counts_the_hidden_half_of_the_spectrum(image: np.ndarray) -> None:
    full = np.abs(np.fft.fft2(image)) ** 2
    bins = np.rint(75 * np.hypot(np.fft.fftfreq(60)[:, None], np.fft.fftfreq(75)[None])).astype(int)
    expected = np.bincount(bins.ravel(), full.ravel())
    half = np.fft.rfft2(image).astype(np.complex64)
    out = np.zeros(len(expected))
    kernel.radial_power(half, bins[:, : half.shape[1]].astype(np.uint16), out)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-3)


def test_rings_hold_the_sums_of_their_pixels(image: np.ndarray) -> None:
    rings = np.zeros((3, 17))
    kernel.add_to_rings(image, np.array([[30.2, 25.9], [5.0, 25.0]]), -1.0, 8.0, 0.5, rings)
    sums, squares, counts = rings
    y, x = np.mgrid[:60, :75] + 0.5
    r = np.hypot(x - 30.2, y - 25.9)
    base = image[(r >= 0.65 * 8.0) & (r < 8.0)].mean()
    values, ring = -(image[r < 8.0] - base), (r[r < 8.0] / 0.5).astype(int)
    np.testing.assert_array_equal(counts, np.bincount(ring, minlength=17))
    np.testing.assert_allclose(sums, np.bincount(ring, values, 17), atol=1e-4)
    np.testing.assert_allclose(squares, np.bincount(ring, values**2, 17), atol=1e-4)


def test_rings_that_an_edge_cuts_get_nothing(image: np.ndarray) -> None:
    rings = np.zeros((3, 17))
    kernel.add_to_rings(image, np.array([[5.0, 25.0]]), 1.0, 8.0, 0.5, rings)
    assert not rings.any()


def _gaussian_table(sigma: float, reach: float, spacing: float) -> np.ndarray:
    r = np.arange(int(reach / spacing) + 3) * spacing
    profile = np.exp(-(r**2) / (2 * sigma**2))
    return np.stack([profile, -r / sigma**2 * profile])


@pytest.mark.parametrize("centre", [(30.0, 25.0), (30.31, 25.83), (29.5, 25.5)])
def test_the_ascent_ends_at_the_centre_of_a_round_spot(centre: tuple[float, float]) -> None:
    y, x = np.mgrid[:60, :75] + 0.5
    spot = 5 + np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * 2.5**2)).astype(np.float32)
    out = np.empty(3)
    table = _gaussian_table(2.5, 9.0, 0.05)
    kernel.ascend(spot, centre[0] + 0.8, centre[1] - 0.6, table, 0.05, 9.0, 3.0, 1 / (2 * 2.5**2), 3.0, out)
    np.testing.assert_allclose(out[:2], centre, atol=2e-3)
    assert out[2] == pytest.approx(np.pi * 2.5**2, rel=0.02)


def test_the_ascent_fails_where_there_is_no_top_nearby() -> None:
    slope = np.broadcast_to(np.arange(75, dtype=np.float32), (60, 75)).copy()
    out = np.empty(3)
    kernel.ascend(slope, 30.0, 30.0, _gaussian_table(2.5, 9.0, 0.05), 0.05, 9.0, 3.0, 0.08, 2.0, out)
    assert np.isnan(out).all()


def test_the_ascent_fails_at_the_edge() -> None:
    out = np.empty(3)
    kernel.ascend(np.ones((60, 75), np.float32), 2.0, 30.0, _gaussian_table(2.5, 9.0, 0.05), 0.05, 9.0, 3.0, 0.08, 2.0, out)
    assert np.isnan(out).all()


def test_a_painted_profile_is_the_round_function_it_samples() -> None:
    r = np.arange(62) * 0.1
    profile = np.maximum(1 - r / 5, 0)
    image = np.zeros((40, 40), np.float32)
    kernel.add_profile(image, 20.3, 2.2, 3.0, profile, 0.1)
    y, x = np.mgrid[:40, :40] + 0.5
    expected = 3 * np.maximum(1 - np.hypot(x - 20.3, y - 2.2) / 5, 0)
    np.testing.assert_allclose(image, expected, atol=1e-5)


def test_beads_in_turn_are_centred_with_those_found_before_subtracted() -> None:
    y, x = np.mgrid[:60, :75] + 0.5
    centres, table = np.array([[30.3, 27.7], [44.0, 30.2], [3.0, 3.0]]), _gaussian_table(2.5, 9.0, 0.05)
    profile = np.exp(-((np.arange(140) * 0.1) ** 2) / (2 * 2.5**2))
    image = 2 * sum(np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 2.5**2)) for cx, cy in centres[:2]).astype(np.float32)
    found, energy, ascent = np.full((3, 3), np.nan), np.pi * 2.5**2, (table, 0.05, 9.0, 3.0, 1 / (2 * 2.5**2), 3.0)
    for turns in (np.arange(3), np.array([1, 0])):
        kernel.centre_in_turn(image, centres + 0.4, turns, *ascent, profile, 0.1, energy, found)
    np.testing.assert_allclose(found[:2, :2], centres[:2], atol=0.02)
    np.testing.assert_allclose(found[:2, 2] / energy, 2.0, rtol=0.03)
    assert np.isnan(found[2]).all()
    assert np.abs(image).max() < 0.1


@pytest.mark.parametrize("kind", [np.float32, np.int16])
def test_rows_are_mirrored_at_both_ends(image: np.ndarray, kind: type) -> None:
    image, out = (100 * image).astype(kind), np.empty((10, 90), np.float32)
    kernel.mirror_rows(image, 20, 0.5, 6, out)
    np.testing.assert_array_equal(out, np.pad(image[20:30] - np.float32(0.5), ((0, 0), (6, 9)), mode="symmetric"))


def test_columns_are_kept_and_the_power_of_the_finest_counted(rng: np.random.Generator) -> None:
    spectrum = (rng.normal(size=(7, 20)) + 1j * rng.normal(size=(7, 20))).astype(np.complex64)
    out = np.empty((7, 8), np.complex64)
    assert kernel.keep_columns(spectrum, 12, 3, out) == pytest.approx(np.sum(np.abs(spectrum[::3, 12:]) ** 2), rel=1e-5)
    np.testing.assert_array_equal(out, spectrum[:, :8])


def test_each_frequency_gets_the_gain_of_its_bin(rng: np.random.Generator) -> None:
    spectrum = (rng.normal(size=(6, 9)) + 1j * rng.normal(size=(6, 9))).astype(np.complex64)
    bins, gain = rng.integers(0, 5, (6, 9)).astype(np.uint16), rng.normal(size=5).astype(np.float32)
    out = np.empty_like(spectrum)
    kernel.apply_gain(spectrum, bins, gain, out)
    np.testing.assert_allclose(out, spectrum * gain[bins], rtol=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.int16])
def test_an_image_is_copied_around_points_within_its_border_only(image: np.ndarray, kind: type) -> None:
    image = (100 * image).astype(kind)
    out, expected = np.zeros((2, *image.shape), np.float32)
    kernel.copy_around(image, np.array([[30.4, 20.0], [73.5, 1.2]]), 3.5, -1.0, out)
    for rows, columns in ((slice(16, 25), slice(26, 35)), (slice(0, 6), slice(70, 75))):
        expected[rows, columns] = -image[rows, columns]
    np.testing.assert_array_equal(out, expected)
