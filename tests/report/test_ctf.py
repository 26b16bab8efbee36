"""The CTF and the exposure on the page: plots, checks, and the text for a paper."""

from __future__ import annotations

from typing import Any

import pytest
from tests.report.conftest import VIEWS, make_ctf, make_exposure

from tiltflow.record import SeriesRecord
from tiltflow.report.check import Check
from tiltflow.report.checks import examine
from tiltflow.report.ctf_checks import defocus_scatter_nm, describe_hand
from tiltflow.report.ctf_plots import ctf_plots
from tiltflow.report.methods import describe_methods
from tiltflow.report.rows import row_of
from tiltflow.report.verdict import judge
from tiltflow.work import Thresholds, Trust

LIMITS = Thresholds()


@pytest.fixture
def cryo(record: SeriesRecord) -> SeriesRecord:
    record.ctf, record.exposure = make_ctf(), make_exposure()
    return record


def checks(record: SeriesRecord) -> dict[str, Check]:
    return {check.name: check for check in examine(record, LIMITS)}


def test_a_plastic_series_says_nothing_of_either(record: SeriesRecord) -> None:
    assert not {"CTF", "CTF score", "defocus", "exposure"} & checks(record).keys()
    assert list(ctf_plots(record)) == []


def test_what_is_known_is_drawn(cryo: SeriesRecord) -> None:
    plots = {plot.name: plot for plot in ctf_plots(cryo)}
    assert list(plots) == ["rings", "defocus", "exposure"]
    assert "rings seen to a spacing of 15 Å" in plots["rings"].remark
    assert "to the right at positive tilts (hand +1: gradient 0.95 ± 0.05)" in plots["defocus"].remark
    cryo.ctf.measured, cryo.ctf.rings, cryo.exposure = False, [], None  # type: ignore[union-attr]
    assert list(ctf_plots(cryo)) == []


@pytest.mark.parametrize(
    ("score", "level"), [(0.41, Trust.GOOD), (0.4, Trust.GOOD), (0.39, Trust.DOUBTFUL), (0.2, Trust.DOUBTFUL), (0.19, Trust.POOR)]
)
def test_the_score_of_the_rings(cryo: SeriesRecord, score: float, level: Trust) -> None:
    cryo.ctf.score = [score] * VIEWS  # type: ignore[union-attr]
    assert checks(cryo)["CTF score"].level is level
    assert judge(cryo, LIMITS).level is level


@pytest.mark.parametrize(("factor", "level"), [(78, Trust.GOOD), (84, Trust.DOUBTFUL), (196, Trust.DOUBTFUL), (208, Trust.POOR)])
def test_the_scatter_of_the_defocus(cryo: SeriesRecord, factor: float, level: Trust) -> None:
    # Of a sign that changes from view to view a parabola explains next to nothing.
    cryo.ctf.defocus_nm = [4000 + factor * (-1) ** view for view in range(VIEWS)]  # type: ignore[union-attr]
    assert checks(cryo)["defocus scatter"].level is level


@pytest.mark.parametrize(
    ("defocus", "tilt", "included", "expected"),
    [
        ([1.0, 4.0, 9.0, 16.0, 25.0], [1.0, 2.0, 3.0, 4.0, 5.0], [True] * 5, 0.0),
        ([1.0, 4.0, 9.0, 16.0, 25.0, 900.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [True] * 5 + [False], 0.0),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [True] * 3, None),
        ([], [1.0, 2.0], [True] * 2, None),
    ],
)
def test_scatter_is_what_a_parabola_leaves(
    defocus: list[float], tilt: list[float], included: list[bool], expected: float | None
) -> None:
    assert defocus_scatter_nm(defocus, tilt, included) == (None if expected is None else pytest.approx(expected, abs=1e-9))


@pytest.mark.parametrize(
    ("what", "changes", "name", "said"),
    [
        ("ctf", {"applied": False, "reason": "no rings are seen"}, "CTF", "the CTF is not corrected: no rings are seen"),
        ("ctf", {"measured": False, "reason": "the defocus of 4000 nm is stated"}, "defocus", "the defocus of 4000 nm is stated"),
        (
            "exposure",
            {"applied": False, "reason": "no source gives it"},
            "exposure",
            "not weighted by exposure: no source gives it",
        ),
        ("exposure", {}, "exposure", "up to 63 electrons per Å²; TS_01.mdoc"),
    ],
)
def test_what_is_only_told_is_no_judgement(cryo: SeriesRecord, what: str, changes: dict[str, Any], name: str, said: str) -> None:
    for field, value in changes.items():
        setattr(getattr(cryo, what), field, value)
    check = checks(cryo)[name]
    assert (check.judged, check.level) == (False, Trust.GOOD)
    assert said in check.finding


def test_an_order_that_nothing_tells_is_doubtful(cryo: SeriesRecord) -> None:
    cryo.exposure.order_assumed = True  # type: ignore[union-attr]
    assert checks(cryo)["exposure"].level is Trust.DOUBTFUL


@pytest.mark.parametrize(
    ("hand", "measured", "said"),
    [
        (1, 1, "rises to the right at positive tilts (hand +1"),
        (-1, -1, "InvertTiltAngles = 1"),
        (-1, 1, "against what was stated"),
        (0, None, "taken to be the same all over a view"),
        (-1, None, "as stated, it is taken to rise to the left"),
    ],
)
def test_the_hand_in_words(hand: int, measured: int | None, said: str) -> None:
    assert said in describe_hand(make_ctf().model_copy(update={"hand": hand, "hand_measured": measured}))


def test_the_text_for_a_paper_says_what_was_done(cryo: SeriesRecord) -> None:
    text = describe_methods(cryo).text
    assert "mean defocus 4000 ± 8 nm" in text
    assert "300 kV, Cs 2.7 mm, amplitude contrast 0.07" in text
    assert "by flipping phases, allowing for the gradient" in text
    assert "63 electrons per Å² in all (Grant and Grigorieff, 2015)" in text
    cryo.ctf.applied = cryo.exposure.applied = False  # type: ignore[union-attr]
    assert "contrast transfer" not in describe_methods(cryo).text
    assert "Grant" not in describe_methods(cryo).text


@pytest.mark.parametrize(
    ("hand", "measured", "level", "judged", "said"),
    [
        (1, 1, Trust.GOOD, False, "rises to the right"),
        (-1, -1, Trust.GOOD, False, "only in the first case is the tomogram mirrored"),
        (1, -1, Trust.DOUBTFUL, True, "against what was stated"),
        (-1, 1, Trust.DOUBTFUL, True, "against what was stated"),
        (0, None, Trust.GOOD, False, "the images do not decide"),
    ],
)
def test_the_hand_is_told_and_doubted_where_images_and_statement_disagree(
    cryo: SeriesRecord, hand: int, measured: int | None, level: Trust, judged: bool, said: str
) -> None:
    cryo.ctf.hand, cryo.ctf.hand_measured = hand, measured  # type: ignore[union-attr]
    check = checks(cryo)["hand"]
    assert (check.level, check.judged) == (level, judged)
    assert said in check.finding
    assert not check.finding.endswith(".")


def test_a_hand_that_was_not_measured_is_not_called_undecided(cryo: SeriesRecord) -> None:
    cryo.ctf.measured, cryo.ctf.hand, cryo.ctf.hand_measured = False, -1, None  # type: ignore[union-attr]
    assert checks(cryo)["hand"].finding.startswith("it was not measured to which side the defocus rises")
    assert checks(cryo)["hand"].finding.endswith("it is taken to rise to the left")


def test_what_speaks_against_a_given_defocus_or_a_stated_order_is_a_doubt(cryo: SeriesRecord) -> None:
    cryo.ctf.measured, cryo.ctf.doubts = False, ["4000 nm were aimed at"]  # type: ignore[union-attr]
    cryo.exposure.doubt = "the order that is stated is not that of TS_01.mdoc"  # type: ignore[union-attr]
    found = checks(cryo)
    assert (found["given defocus"].level, found["given defocus"].finding) == (Trust.DOUBTFUL, "4000 nm were aimed at")
    assert found["exposure"].level is Trust.DOUBTFUL
    assert found["exposure"].finding.endswith("the order that is stated is not that of TS_01.mdoc")


def test_what_was_asked_for_and_left_out_is_seen_in_the_index_of_a_good_series(cryo: SeriesRecord) -> None:
    assert row_of(cryo, LIMITS, "TS_01").trouble == ""
    cryo.ctf.applied, cryo.ctf.reason = False, "no source gives the voltage"  # type: ignore[union-attr]
    cryo.exposure.applied, cryo.exposure.reason = False, "nothing tells the order"  # type: ignore[union-attr]
    row = row_of(cryo, LIMITS, "TS_01")
    assert row.verdict.level is Trust.GOOD
    assert row.trouble == (
        "the CTF is not corrected: no source gives the voltage; frequencies are not weighted by exposure: nothing tells the order"
    )
