"""Fixtures that every room of the house shares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """The small golden cases that travel with the project."""
    return DATA


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of large inputs and reference outputs that lies beside a developer's checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder of reference data beside the checkout")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator, the same in every run."""
    return np.random.default_rng(20260711)
