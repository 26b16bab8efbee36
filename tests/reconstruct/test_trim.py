"""Tests of trimming and turning the volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tiltflow.errors import ParameterError
from tiltflow.reconstruct.trim import ByteContrast, Trim, TrimParams, scale_to_bytes


def trimmed(full: np.ndarray, params: TrimParams, rows: int = 3) -> np.ndarray:
    trim = Trim(full.shape, params)
    out = np.full(trim.output_shape, -999, full.dtype)
    for y0 in range(0, len(full), rows):
        placed = trim.place(y0, full[y0 : y0 + rows])
        if placed is not None:
            out[placed[0]] = placed[1]
    return out


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("rec_reorient1", TrimParams(reorient=1)),
        ("rec_reorient2", TrimParams(reorient=2)),
        ("rec_trim", TrimParams(reorient=2, x_range=(3, 24), y_range=(2, 18), z_range=(2, 11))),
        ("full_rec", TrimParams(reorient=0)),
    ],
)
def test_slab_by_slab_it_makes_the_volume_of_trimvol_to_the_voxel(data: Path, name: str, params: TrimParams) -> None:
    golden = np.load(data / "reconstruct" / "trimvol.npz")
    np.testing.assert_array_equal(trimmed(golden["full_rec"], params), golden[name])


def test_sizes_are_cut_about_the_centre_in_pixels_or_as_fractions() -> None:
    full = np.arange(10 * 6 * 8).reshape(10, 6, 8)
    out = trimmed(full, TrimParams(reorient=1, size_x=4, size_y=0.5, thickness=2))
    np.testing.assert_array_equal(out, full[2:7, 2:4, 2:6].transpose(1, 0, 2))
    larger = Trim(full.shape, TrimParams(size_x=100))
    assert larger.output_shape == (6, 10, 8)
    assert larger.keeps_all


def test_a_slab_outside_of_what_is_kept_goes_nowhere() -> None:
    trim = Trim((20, 4, 4), TrimParams(z_range=(5, 8)))
    assert trim.place(0, np.zeros((4, 4, 4))) is None
    assert trim.place(8, np.zeros((4, 4, 4))) is None
    assert trim.output_shape == (4, 4, 4)
    assert not trim.keeps_all


@pytest.mark.parametrize("bad", [{"z_range": (0, 30)}, {"x_range": (9, 2)}, {"thickness": 0.0}, {"y_range": (30, 40)}])
def test_a_cut_that_keeps_nothing_or_too_much_is_refused(bad: dict[str, tuple[int, int]]) -> None:
    with pytest.raises(ParameterError):
        Trim((20, 10, 10), TrimParams(**bad))


def test_contrast_ignores_one_pixel_a_section_and_all_that_is_not_in_the_middle(rng: np.random.Generator) -> None:
    full = rng.integers(-50, 51, (40, 30, 50)).astype(np.int16)
    full[:, :5] = 20000
    full[:3], full[..., :3] = -20000, 20000
    full[20, 12:20, 25] = [9000, -9000] * 4
    contrast = ByteContrast(full.shape)
    for y0 in range(0, 40, 7):
        contrast.add(y0, full[y0 : y0 + 7])
    assert contrast.limits() == (-50, 50)


def test_contrast_of_reals_is_exact_and_of_the_middle_that_is_asked_for(rng: np.random.Generator) -> None:
    full = rng.normal(5, 1e-3, (20, 30, 24)).astype(np.float32)
    for size, middle in (((0.5, 10, 0.2), full[5:15, 12:18, 6:18]), ((1.0, 1.0, 1.0), full)):
        contrast = ByteContrast(full.shape, size)
        for y0 in range(0, 20, 3):
            contrast.add(y0, full[y0 : y0 + 3])
        ordered = np.sort(middle, axis=None).astype(float)
        beyond = middle.shape[1]
        assert contrast.limits() == (ordered[beyond], ordered[-1 - beyond])
    with pytest.raises(ParameterError, match="contrast from"):
        TrimParams(contrast_size=(0.8, 0.0, 0.3))


def test_bytes_span_black_to_white() -> None:
    block = np.array([[-300, -100, 0, 100, 400]], np.int16)
    assert scale_to_bytes(block, -100, 100).tolist() == [[0, 0, 128, 255, 255]]


def test_contrast_of_nothing_is_an_error() -> None:
    with pytest.raises(ParameterError, match="no contrast"):
        ByteContrast((4, 4, 4)).limits()
