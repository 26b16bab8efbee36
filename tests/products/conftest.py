"""Inputs of the products: the golden volume, and volumes made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tiltflow.formats.mrc import MrcWriter

MakeVolume = Callable[..., Path]


@pytest.fixture(scope="session")
def golden_volumes(unpacked: Callable[[str], Path]) -> dict[str, Path]:
    """The volumes that IMOD's programs were given, of integers and of real numbers."""
    return {kind: unpacked(f"products/vol_{kind}.mrc") for kind in ("i16", "f32")}


@pytest.fixture(scope="session")
def golden_volume(golden_volumes: dict[str, Path]) -> Path:
    """The one of integers."""
    return golden_volumes["i16"]


@pytest.fixture(scope="session")
def expected(data: Path) -> dict[str, Any]:
    """What IMOD made of it: type, statistics and digest of each file."""
    return dict(json.loads((data / "products" / "expected.json").read_text()))


@pytest.fixture
def make_volume(tmp_path: Path) -> MakeVolume:
    """Return a function that writes voxels to an MRC file and returns its path."""

    def make(voxels: NDArray[Any], name: str = "B_rec.mrc", pixel_size: float | tuple[float, float, float] = 5.0) -> Path:
        path = tmp_path / name
        with MrcWriter(path, voxels.shape, voxels.dtype, pixel_size_angstrom=pixel_size) as out:
            out.write(voxels)
        return path

    return make


@pytest.fixture
def series(make_volume: MakeVolume, rng: np.random.Generator) -> tuple[Path, Path]:
    """An aligned stack and a reconstruction of a series B."""
    aligned = make_volume(rng.integers(-500, 900, (7, 66, 90)).astype(np.int16), "B_ali.mrc")
    return aligned, make_volume(rng.integers(-3000, 3000, (20, 66, 90)).astype(np.int16), "B_rec.mrc")
