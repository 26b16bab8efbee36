from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tiltflow.kernels import products as kernels
from tiltflow.products.levels import Moments, common_mean, contrast, picture, section_moments
from tiltflow.products.sections import Voxels


def at_common_mean(path: Path, threads: int = 1) -> tuple[np.ndarray, Any]:
    with Voxels(path) as voxels:
        levels = common_mean(section_moments(voxels, threads=threads))
        out = np.empty(voxels.shape, np.int16 if voxels.whole else np.float32)
        kernels.change_levels(voxels.read(slice(None)), levels.scale, levels.offset, voxels.whole, out)
    return out, levels


@pytest.mark.parametrize(("kind", "threads"), [("i16", 1), ("i16", 3), ("f32", 1)])
def test_a_common_mean_is_that_of_newstack_to_the_voxel(
    golden_volumes: dict[str, Path], expected: dict[str, Any], kind: str, threads: int
) -> None:
    out, levels = at_common_mean(golden_volumes[kind], threads)
    truth = expected[f"float3_vol_{kind}"]
    assert hashlib.sha256(out.astype(out.dtype.newbyteorder("<")).tobytes()).hexdigest() == truth["sha256"]
    assert (levels.minimum, levels.maximum) == (truth["minimum"], truth["maximum"])
    assert levels.mean == pytest.approx(truth["mean"], rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(1, 6), st.just(4), st.just(5)), elements=st.integers(-32768, 32767)))
def test_after_the_shift_all_means_agree_and_nothing_is_negative(sections: np.ndarray) -> None:
    moments = Moments(sections.min((1, 2)), sections.max((1, 2)), sections.mean((1, 2), dtype=np.float64).astype(np.float32))
    levels = common_mean(moments)
    shifted = sections * levels.scale[:, None, None] + levels.offset[:, None, None]
    np.testing.assert_allclose(shifted, sections - moments.mean[:, None, None] + levels.mean, atol=0.05)
    means = shifted.mean((1, 2), dtype=np.float64)
    np.testing.assert_allclose(means, means[0], atol=0.05)
    assert shifted.min() >= -0.05
    assert shifted.min() == pytest.approx(levels.minimum, abs=0.05)
    assert shifted.max() == pytest.approx(levels.maximum, abs=0.05)


def test_the_contrast_maps_the_ends_of_the_range_to_black_and_white() -> None:
    grey = contrast(-50, 200, 0, 255)
    assert -50 * grey.slope + grey.intercept == pytest.approx(0)
    assert 200 * grey.slope + grey.intercept == pytest.approx(255)
    darker = contrast(0, 255, 100, 255)
    assert 100 * darker.slope + darker.intercept == pytest.approx(0)
    assert 255 * darker.slope + darker.intercept == pytest.approx(255 * 256 / 156 * 155 / 255)


def test_a_constant_image_is_middle_grey() -> None:
    levels = common_mean(Moments(*(np.full(2, 7, np.float32) for _ in range(3))))
    grey = contrast(levels.minimum, levels.maximum)
    assert (picture(np.full((3, 4), 7, np.float32), levels, 1, grey, whole=True) == 128).all()
