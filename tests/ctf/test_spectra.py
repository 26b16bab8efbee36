"""Spectra of tiles: what belongs where, and what does not belong."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow import geometry
from tiltflow.ctf.spectra import series_spectra, tile_side
from tiltflow.errors import ParameterError

LEVEL = np.repeat(np.eye(2, 3)[None], 1, axis=0)


def test_a_wave_is_found_at_its_frequency_and_direction():
    y, x = np.mgrid[:512, :512]
    wave = np.cos(2 * np.pi * (0.1 * x + 0.1 * y))[None]
    found = series_spectra(wave, LEVEL, 0.5, highest=1.3)
    _, _, sector, shell = np.unravel_index(np.argmax(found.power), found.power.shape)
    assert found.s2[shell] == pytest.approx((0.2 * np.sqrt(2)) ** 2, rel=0.03)
    assert found.direction[sector] == pytest.approx(np.pi / 4, abs=np.pi / 12)


def test_white_noise_is_white_and_its_scatter_is_what_the_weights_say(rng):
    found = series_spectra(rng.normal(size=(6, 512, 512)), np.repeat(LEVEL, 6, axis=0), 0.5, highest=1.3).isotropic()
    ratio = found.power / found.power[found.weight > 0].mean() - 1
    assert abs(ratio[..., 40:].mean()) < 0.005
    by_weight = (found.weight * ratio**2)[found.weight > 0].mean()
    assert by_weight == pytest.approx(0.48, abs=0.06), "the shells overlap, so that single ones scatter less than their weight says"


def test_columns_lie_where_the_tilt_axis_says(rng):
    turned = geometry.from_axis_and_shifts(90.0, [[10.0, 20.0]])
    found = series_spectra(rng.normal(size=(1, 256, 512)), turned, 0.5, highest=1.3)
    tiles = (found.weight[0, :, 0, 20] / found.weight[0, :, 0, 20].sum()) @ found.u_nm[0]
    assert tiles == pytest.approx(-10.0, abs=0.2), "u is y of the raw view, less the shift"
    assert np.all(np.diff(found.u_nm[0]) > 0)


def test_gold_and_empty_parts_change_nothing(rng):
    plain = rng.normal(1000, 30, (1, 512, 512))
    spoilt = plain.copy()
    y, x = np.mgrid[:512, :512]
    for cy, cx in rng.integers(20, 490, (12, 2)):
        spoilt[0][(y - cy) ** 2 + (x - cx) ** 2 < 10**2] -= 600
    spoilt[0, :40] = 1000
    a, b = (series_spectra(stack, LEVEL, 0.5, highest=1.3).isotropic() for stack in (plain, spoilt))
    shape_a, shape_b = (s.power[0, 1, 0] / s.power[0, 1, 0, 60:].mean() for s in (a, b))
    np.testing.assert_allclose(shape_b[15:], shape_a[15:], atol=0.25)


def test_rows_and_columns_of_the_camera_that_count_more_change_nothing(rng):
    plain = rng.normal(1000, 30, (1, 512, 512))
    striped = plain + 30 * rng.normal(size=(512, 1)) + 30 * rng.normal(size=(1, 512))
    a, b = (series_spectra(stack, LEVEL, 0.5, highest=1.3).isotropic().power[0, 1, 0] for stack in (plain, striped))
    assert (b[20:] / a[20:]).max() < 1.2


@pytest.mark.parametrize(
    ("side", "pixel", "tile"), [(1024, 0.5, 256), (4096, 0.2, 640), (512, 1.0, 128), (512, 0.2, 256), (100, 1.0, 50)]
)
def test_sides_of_tiles(side, pixel, tile):
    assert tile_side(side, pixel) == tile


def test_small_images_and_other_counts_are_refused():
    with pytest.raises(ParameterError, match="too small"):
        series_spectra(np.zeros((1, 64, 64)), LEVEL, 0.5, highest=1.0)
    with pytest.raises(ParameterError, match="one \\(2, 3\\) matrix a view"):
        series_spectra(np.zeros((2, 512, 512)), LEVEL, 0.5, highest=1.0)
