"""How many processes compile kernels beside a first run."""

from __future__ import annotations

import pytest

from tiltflow.engines.native import engine
from tiltflow.kernels.ahead import HELPER_BYTES


@pytest.mark.parametrize(
    ("threads", "available", "helpers"),
    [
        (1, None, 0),
        (2, None, 1),
        (8, None, 7),
        (8, 10**12, 7),
        (8, 4 * HELPER_BYTES, 2),
        (8, 2 * HELPER_BYTES - 1, 0),
        (1, 10**12, 0),
    ],
)
def test_idle_cores_compile_within_half_of_the_free_memory(
    monkeypatch: pytest.MonkeyPatch, threads: int, available: int | None, helpers: int
) -> None:
    monkeypatch.setattr(engine, "available_memory", lambda: available)
    assert engine._spare_helpers(threads) == helpers
