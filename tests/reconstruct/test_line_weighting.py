"""Tests of the lines of the views on their way to back-projection."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.errors import ParameterError
from tiltflow.reconstruct import line_weighting
from tiltflow.reconstruct.line_weighting import chosen_views, filter_lines, filter_padded, read_lines, weigh
from tiltflow.reconstruct.radial_filters import continue_lines, padded_length


def test_a_flat_filter_changes_nothing_but_the_scale(rng: np.random.Generator) -> None:
    lines = rng.normal(size=(3, 2, 50)).astype(np.float32)
    scale = np.array([1.0, 2.0, -0.5], np.float32)
    flat = np.repeat(scale[:, None], padded_length(50) // 2 + 1, axis=1)
    np.testing.assert_allclose(filter_lines(lines, flat), lines * scale[:, None, None], atol=1e-5)


def test_lines_are_filtered_in_place_and_any_number_at_once(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = rng.normal(size=(7, 3, 50)).astype(np.float32)
    weights = rng.random((7, padded_length(50) // 2 + 1)).astype(np.float32)
    length = padded_length(50)
    padded = np.full((3, 7, length), np.nan, np.float32).transpose(1, 0, 2)
    padded[..., :50] = lines
    whole = padded.copy()
    continue_lines(whole, 50)
    expected = np.fft.irfft(np.fft.rfft(whole.astype(float)) * weights[:, None], length)[..., :50]
    by_row = np.ascontiguousarray(lines.transpose(1, 0, 2))
    monkeypatch.setattr(line_weighting, "_CACHED_BYTES", 4 * 3 * length * 2)
    filter_lines(by_row.transpose(1, 0, 2), weights, out=by_row.transpose(1, 0, 2))
    np.testing.assert_allclose(by_row.transpose(1, 0, 2), expected, atol=1e-5)
    filter_padded(padded, 50, weights)
    np.testing.assert_allclose(padded[..., :50], expected, atol=1e-5)


def test_views_are_those_included_and_not_excluded() -> None:
    assert chosen_views(5).tolist() == [0, 1, 2, 3, 4]
    assert chosen_views(5, [True, False, True, True, True], (3,)).tolist() == [0, 2, 4]
    with pytest.raises(ParameterError, match="3 marks of inclusion for 5"):
        chosen_views(5, [True] * 3)


def test_lines_are_read_for_the_chosen_views_and_as_logarithms_when_asked(rng: np.random.Generator) -> None:
    stack = rng.integers(10, 1000, (4, 6, 12)).astype(np.int16)
    views, tilt = np.array([0, 3]), np.array([-5.0, 5.0])
    radial = np.ones(padded_length(12) // 2 + 1)
    plain = weigh(stack, views, tilt, np.ones(2), radial)
    np.testing.assert_array_equal(read_lines(stack, plain, 2, 5), stack[[0, 3], 2:5])
    logs = weigh(stack, views, tilt, np.ones(2), radial, log_offset=90.0)
    np.testing.assert_allclose(read_lines(stack, logs, 2, 5), np.log10(stack[[0, 3], 2:5] + 90.0), rtol=1e-5)
    np.testing.assert_allclose(logs.fill, 0.2 * np.log10(stack[[0, 3]].mean() + 90), rtol=1e-5)
