"""Angles and exposures in another order than the views: which order is the right one, and who tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.formats.beside import TILTS, messages, write_mdoc

from tiltflow.formats import tiltangles
from tiltflow.formats.series import read_series
from tiltflow.formats.tilts import write_tilts

MakeMrc = Callable[..., Path]


def test_an_mdoc_in_the_order_of_acquisition_gives_way_to_the_header_and_its_exposures_are_matched(
    make_series: Callable[..., Path],
) -> None:
    path = make_series()
    acquired = [2, 3, 1, 0, 4]
    mdoc = write_mdoc(path, tilts=TILTS[acquired])
    text = mdoc.read_text()
    for place in range(5):
        text = text.replace("ExposureDose = 2.5", f"ExposureDose = {place + 1}.0", 1)
    mdoc.write_text(text)
    series = read_series(path)
    assert np.array_equal(series.tilt_deg, TILTS)
    assert series.exposure is not None
    assert series.exposure.tolist() == [4, 3, 1, 2, 5]
    assert series.provenance["exposure"] == "B.mrc.mdoc, matched by angle, 15 electrons per square ångström in all"
    assert "B.mrc.mdoc: the tilt angles there, 5 angles from 0.00 to 45.00, are the same angles in another order" in messages(
        series
    )


def test_exposures_are_matched_to_a_rawtlt_too_but_not_to_one_with_the_other_sign(make_series: Callable[..., Path]) -> None:
    path = make_series(None)
    symmetric = np.array([-40.0, -20, 0, 20, 40])
    mdoc = write_mdoc(path, tilts=symmetric)
    mdoc.write_text(mdoc.read_text().replace("ExposureDose = 2.5", "ExposureDose = 9", 1))
    for tilts, exposure in ((symmetric[[1, 0, 2, 3, 4]], [2.5, 9, 2.5, 2.5, 2.5]), (-symmetric, [9, 2.5, 2.5, 2.5, 2.5])):
        write_tilts(path.with_suffix(".rawtlt"), tilts)
        series = read_series(path)
        assert np.array_equal(series.tilt_deg, tilts)
        assert series.exposure is not None
        assert series.exposure.tolist() == exposure


def test_an_mdoc_whose_angles_differ_is_still_better_than_the_header(make_series: Callable[..., Path]) -> None:
    path = make_series()
    write_mdoc(path, tilts=TILTS + 1)
    assert read_series(path).provenance["tilt_deg"].startswith("B.mrc.mdoc")


@pytest.fixture(scope="module")
def turning() -> NDArray[np.int16]:
    """Return thirteen views that change little by little, by rising tilt: noise that walks."""
    rng = np.random.default_rng(3)
    steps = rng.normal(size=(13, 64, 64))
    views = np.array([sum(0.8 ** abs(view - each) * step for each, step in enumerate(steps)) for view in range(13)])
    return np.rint(1000 + 100 * views).astype(np.int16)


RISING = np.linspace(-36.0, 36.0, 13)
ACQUIRED = [6, 7, 5, 4, 8, 9, 3, 2, 10, 11, 1, 0, 12]


def stack_of(make_mrc: MakeMrc, views: NDArray[np.int16], header: NDArray[np.float64] | None = None) -> Path:
    told = (
        {}
        if header is None
        else {"extended": np.rint(header * 100).astype("<i2").tobytes(), "kind": b"SERI", "nint": 2, "nreal": 1}
    )
    return make_mrc(views, labels=["SerialEM: test", "    Tilt axis angle = 12.0, binning = 1"], **told)


@pytest.mark.parametrize("title", ["Tomography: KRIOS", "SerialEM: Krios"])
def test_an_mdoc_as_acquired_beside_a_sorted_stack_is_sorted_as_the_images_are(
    make_mrc: MakeMrc, turning: NDArray[np.int16], title: str
) -> None:
    path = stack_of(make_mrc, turning)
    mdoc = write_mdoc(path, tilts=RISING[ACQUIRED], axis=None)
    lines = mdoc.read_text().replace("ExposureDose = 2.5", "ExposureDose = {}").format(*range(1, 14))
    mdoc.write_text(f"[T = {title}]\n{lines}")
    series = read_series(path)
    assert np.array_equal(series.tilt_deg, RISING)
    assert series.exposure is not None
    assert np.array_equal(series.exposure[ACQUIRED], np.arange(1, 14))
    assert "the angles are used in rising order, and exposures matched by angle" in messages(series)
    assert series.provenance["tilt_deg"].endswith("sorted by tilt, as the images are")
    assert not series.doubts


def test_an_mdoc_as_acquired_of_a_stack_as_acquired_is_taken_without_a_word(make_mrc: MakeMrc, turning: NDArray[np.int16]) -> None:
    path = stack_of(make_mrc, turning[ACQUIRED])
    write_mdoc(path, tilts=RISING[ACQUIRED])
    series = read_series(path)
    assert np.array_equal(series.tilt_deg, RISING[ACQUIRED])
    assert (series.problems, dict(series.doubts)) == ((), {})


def test_an_order_that_neither_header_nor_images_tell_is_a_doubt(make_mrc: MakeMrc, rng: np.random.Generator) -> None:
    path = stack_of(make_mrc, rng.integers(0, 1000, (13, 64, 64)).astype(np.int16))
    write_mdoc(path, tilts=RISING[ACQUIRED])
    series = read_series(path)
    assert np.array_equal(series.tilt_deg, RISING[ACQUIRED])
    assert "neither a header nor the images tell: the alignment may be wrong" in series.doubts["tilt_deg"]
    assert "put the angles in the order of the stack into B.rawtlt" in messages(series)


def test_where_the_images_are_not_asked_none_is_read(
    make_mrc: MakeMrc, turning: NDArray[np.int16], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stack_of(make_mrc, turning)
    write_mdoc(path, tilts=RISING[ACQUIRED])
    monkeypatch.setattr(tiltangles, "order_of_views", lambda *_: pytest.fail("the images were read"))
    assert np.array_equal(read_series(path, ask_images=False).tilt_deg, RISING[ACQUIRED])


def test_angles_that_a_person_wrote_are_kept_and_doubted_where_the_images_contradict(
    make_mrc: MakeMrc, turning: NDArray[np.int16], rng: np.random.Generator
) -> None:
    noise = rng.integers(0, 1000, turning.shape).astype(np.int16)
    for views, doubted in ((turning, True), (turning[ACQUIRED], False), (noise, False)):
        path = stack_of(make_mrc, views)
        write_tilts(path.with_suffix(".rawtlt"), RISING[ACQUIRED])
        series = read_series(path)
        assert np.array_equal(series.tilt_deg, RISING[ACQUIRED])
        assert bool(series.doubts) == doubted
        assert ("not in the order of the views, which look sorted" in messages(series)) == doubted


@pytest.mark.parametrize("tilts", [RISING, RISING[::-1]])
def test_sorted_angles_and_those_of_the_header_are_not_asked_of_the_images(
    make_mrc: MakeMrc, turning: NDArray[np.int16], tilts: NDArray[np.float64]
) -> None:
    path = stack_of(make_mrc, turning[ACQUIRED])
    mdoc = write_mdoc(path, tilts=tilts)
    assert read_series(path).problems == ()
    mdoc.unlink()
    series = read_series(stack_of(make_mrc, turning, RISING[ACQUIRED]))
    assert np.array_equal(series.tilt_deg, RISING[ACQUIRED])
    assert series.problems == ()


def test_a_header_of_zeros_confirms_no_order(make_mrc: MakeMrc, turning: NDArray[np.int16]) -> None:
    path = stack_of(make_mrc, turning, np.zeros(13))
    write_mdoc(path, tilts=RISING[ACQUIRED])
    assert np.array_equal(read_series(path).tilt_deg, RISING)
