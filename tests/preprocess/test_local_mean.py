"""The blur of a view's background, from means of blocks."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from tiltflow.preprocess.local_mean import LocalMean


@pytest.mark.parametrize(
    ("shape", "sigma", "truncate"), [((200, 256), 12.0, 4.0), ((131, 97), 9.0, 3.0), ((60, 64), 3.0, 4.0), ((9, 200), 40.0, 3.0)]
)
def test_the_blur_is_the_gaussian_one(rng: np.random.Generator, shape: tuple[int, int], sigma: float, truncate: float) -> None:
    """Of a steep field with noise; also at the edges, which are no whole blocks, and where there are no blocks to speak of."""
    y, x = np.indices(shape)
    image = (100 + 0.2 * x - 0.1 * y + 10 * np.sin(x / 40) + rng.normal(0, 2, shape)).astype(np.float32)
    wanted = scipy.ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=truncate)
    found = LocalMean.of(shape, sigma, truncate=truncate)(image)
    assert found.dtype == np.float32
    assert np.std(found - wanted) < 0.02 * np.std(wanted)
    assert np.abs(found - wanted).max() < 0.1 * np.std(wanted)
    assert found.mean() == pytest.approx(wanted.mean(), rel=1e-3)


def test_a_level_stays_as_it_is() -> None:
    np.testing.assert_allclose(LocalMean.of((90, 70), 10.0)(np.full((90, 70), 7.0, np.float32)), 7.0, rtol=1e-5)
