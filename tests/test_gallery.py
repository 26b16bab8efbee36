"""The scripts of the gallery run, and draw what they promise."""

from __future__ import annotations

import runpy
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

GALLERY = sorted((Path(__file__).parents[1] / "docs" / "gallery").glob("*.py"))


@pytest.mark.gallery
@pytest.mark.parametrize("script", GALLERY, ids=lambda path: path.stem)
def test_a_script_runs_and_shows_a_picture_that_is_not_empty(script, monkeypatch):
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown: list[float] = []

    def show() -> None:
        canvas = plt.gcf().canvas
        canvas.draw()
        shown.append(float(np.asarray(canvas.buffer_rgba()).std()))
        plt.close("all")

    monkeypatch.setattr(plt, "show", show)
    runpy.run_path(str(script))
    assert shown
    assert min(shown) > 10
