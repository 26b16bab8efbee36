"""The sums of power against NumPy."""

from __future__ import annotations

import numpy as np

from tiltflow.kernels.spectra import add_power


def test_power_is_added_to_its_class(rng: np.random.Generator) -> None:
    spectrum = (rng.normal(size=(17, 9)) + 1j * rng.normal(size=(17, 9))).astype(np.complex64)
    classes = rng.integers(-1, 6, (17, 9)).astype(np.int32)
    out = np.ones(6)
    add_power(spectrum, classes, out)
    used = classes >= 0
    np.testing.assert_allclose(out, 1 + np.bincount(classes[used], np.abs(spectrum[used]) ** 2, 6), rtol=1e-5)
