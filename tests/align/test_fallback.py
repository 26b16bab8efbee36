"""Which method is tried next, what is trusted, and whose result is used."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from tests.align.listener import Listener

from tiltflow import beside
from tiltflow.align import fallback
from tiltflow.align.coarse import CoarseParams
from tiltflow.align.fallback import align_views, best_attempt, methods_to_try
from tiltflow.align.methods import METHODS, AlignParams
from tiltflow.errors import ParameterError, StageError
from tiltflow.model import Alignment, Evidence
from tiltflow.recipe import BrtParameters
from tiltflow.work import Thresholds


@pytest.mark.parametrize(
    ("asked", "switched_on", "tried"),
    [
        ("gold", True, ("gold", "patches", "projection", "coarse")),
        ("patches", True, ("patches", "projection", "coarse")),
        ("projection", True, ("projection", "coarse")),
        ("coarse", True, ("coarse",)),
        ("gold", False, ("gold",)),
        ("patches", False, ("patches",)),
        ("projection", False, ("projection",)),
    ],
)
def test_the_method_asked_for_comes_first_and_less_accurate_ones_after_it(asked, switched_on, tried):
    assert methods_to_try(asked, fallback=switched_on) == tried


def test_a_method_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ParameterError, match="no alignment method 'raptor': choose gold, patches, projection or coarse"):
        methods_to_try("raptor", fallback=True)


def attempt(method: str, error_px: float | None, *warnings: str) -> Alignment:
    evidence = Evidence(error_px=error_px, trust_warnings=warnings)
    return Alignment(np.zeros((1, 2, 3)), np.zeros(1), np.ones(1, bool), method, evidence=evidence)


@pytest.mark.parametrize(
    ("attempts", "used"),
    [
        pytest.param([("gold", 0.3), ("patches", 0.2)], "patches", id="the smaller estimated error"),
        pytest.param([("gold", 0.2, "3 beads"), ("patches", 0.9)], "patches", id="no warning before a smaller error"),
        pytest.param([("gold", 0.2), ("patches", 0.1, "drifts")], "gold", id="a warning counts however small the error"),
        pytest.param([("gold", 2.0, "a"), ("patches", 1.5, "b"), ("coarse", None, "c")], "patches", id="the least bad of all"),
        pytest.param([("gold", None, "a"), ("patches", 3.0, "b")], "patches", id="a known error before an unknown one"),
        pytest.param([("gold", np.nan), ("patches", 3.0)], "patches", id="not a number is unknown"),
        pytest.param([("gold", np.nan), ("patches", 0.1, "b")], "gold", id="unknown without warning before known with"),
        pytest.param([("gold", 0.3), ("patches", 0.3)], "gold", id="of equals the first"),
        pytest.param([("coarse", None, "c")], "coarse", id="the only one"),
    ],
)
def test_the_attempt_that_is_used(attempts, used):
    assert best_attempt([attempt(*each) for each in attempts]).method == used


def test_without_any_attempt_there_is_no_alignment():
    with pytest.raises(StageError, match="No method could align the views"):
        best_attempt([])


def gives(method: str, error_px: float | None, *warnings: str, shift_px: float = 0.0, **evidence: Any):
    """Return a method of alignment that comes to a known end."""

    def work(start, notes) -> Alignment:
        transforms = np.tile(np.array([[1.0, 0, 0], [0, 1, 0]]), (len(start.tilt_deg), 1, 1))
        transforms[:, :, 2] = shift_px * np.array([0.6, 0.8]) * np.arange(len(start.tilt_deg))[:, None]
        found = Evidence(error_px=error_px, trust_warnings=warnings, **evidence)
        return Alignment(transforms, start.tilt_deg, start.included & (start.tilt_deg < 20), method, evidence=found)

    return work


def fails(error: Exception):
    """Return a method of alignment that cannot be carried out."""

    def work(start, notes) -> Alignment:
        raise error

    return work


COPIES = pytest.mark.skipif(sys.platform != "linux", reason="other systems' libraries do not allow copies of a process")
SOUND = {method: gives(method, 0.5) for method in ("gold", "patches", "projection", "coarse")}
INSTEAD = "aligned by {} instead of gold, as the fallback methods allow"


@pytest.fixture(params=[pytest.param(1, id="in turn"), pytest.param(2, id="at once", marks=COPIES)])
def by(monkeypatch, request):
    """Align a few views of noise by methods of which each comes to a known end, in this process and in copies of it."""
    monkeypatch.setattr(beside, "_ours", True)

    def align_by(methods: dict[str, Any], *, excluded: dict[int, str] | None = None, **asked: Any) -> tuple[Alignment, Listener]:
        monkeypatch.setattr(fallback, "BY_METHOD", {**SOUND, **methods})
        views, listener = np.random.default_rng(1).normal(size=(5, 32, 32)).astype(np.float32), Listener()
        tilts, params = np.linspace(-20, 20, 5), AlignParams(coarse=CoarseParams(find_axis=False), **asked)
        found = align_views(
            views, tilts, -8.0, 20.0, params, excluded=excluded, name="B.st", observer=listener, threads=request.param
        )
        return found, listener

    return align_by


@pytest.mark.parametrize(("method", "doubts"), [("gold", 0), ("patches", 1), ("projection", 1)])
def test_an_axis_that_neither_a_source_nor_the_images_tell_is_a_doubt_unless_beads_do(monkeypatch, method, doubts):
    monkeypatch.setattr(fallback, "BY_METHOD", SOUND)
    views, listener = np.random.default_rng(1).normal(size=(9, 32, 32)).astype(np.float32), Listener()
    params = AlignParams(method=method, fallback=False)
    found = align_views(views, np.linspace(-40, 40, 9), 0.0, 20.0, params, axis_told=False, observer=listener)
    assert found.method == method
    assert found.evidence.axis_angle_nominal_deg is None
    assert "axis_angle_nominal" not in listener.numbers
    assert sum("the tilt axis angle is unknown" in text for text in found.evidence.trust_warnings) == doubts
    assert sum("the tilt axis angle is unknown" in text for text in listener.warnings) == 1


@pytest.mark.parametrize(
    ("methods", "tried", "used", "heard"),
    [
        pytest.param({}, ["gold"], "gold", [], id="a sound result ends the search"),
        pytest.param(
            {"gold": gives("gold", 0.1, "three beads", "all near each other")},
            ["gold", "patches"],
            "patches",
            ["alignment by gold cannot be trusted: three beads; all near each other", INSTEAD.format("patches")],
            id="a warning outweighs a smaller error",
        ),
        pytest.param(
            {"gold": fails(StageError("there are no beads"))},
            ["gold", "patches"],
            "patches",
            ["alignment by gold is not possible: there are no beads", INSTEAD.format("patches")],
            id="after a method that fails comes the next",
        ),
        pytest.param(
            {
                "gold": gives("gold", 2.0, "a"),
                "patches": fails(np.linalg.LinAlgError("Singular matrix")),
                "projection": gives("projection", 0.4),
            },
            ["gold", "patches", "projection"],
            "projection",
            [
                "alignment by gold cannot be trusted: a",
                "alignment by patches is not possible: the images hold too little information for it (Singular matrix)",
                INSTEAD.format("projection"),
            ],
            id="a failure between two attempts",
        ),
        pytest.param(
            {method: gives(method, error, method) for method, error in (("gold", 2.0), ("patches", 3.0), ("projection", 4.0))}
            | {"coarse": gives("coarse", None, "not measured")},
            ["gold", "patches", "projection", "coarse"],
            "gold",
            [f"alignment by {method} cannot be trusted: {method}" for method in ("gold", "patches", "projection")]
            + ["alignment by coarse cannot be trusted: not measured"],
            id="where nothing is trusted the smallest error is used without a word of another method",
        ),
    ],
)
def test_methods_are_tried_until_one_is_trusted_and_the_observer_hears_why(by, methods, tried, used, heard):
    found, listener = by(methods)
    assert [each["method"] for each in found.evidence.attempts] == tried
    stages = [["align: projection", "check of the axis"] if method == "projection" else [f"align: {method}"] for method in tried]
    assert listener.stages == ["coarse alignment", *(stage for each in stages for stage in each)]
    assert found.method == used
    assert [text for text in listener.warnings if "align" in text] == heard


def test_every_attempt_is_kept_with_its_known_figures_its_warnings_or_its_failure(by):
    found, listener = by(
        {
            "gold": gives(
                "gold", 0.7, "a", leave_out_px=np.nan, residual_mean_px=0.25, measurements=40, residual_per_view_px=(1.0,)
            ),
            "patches": fails(StageError("no texture")),
        }
    )
    axis = found.evidence.attempts[2].pop("error_px")
    assert axis == pytest.approx(0.5, abs=0.01)
    assert found.evidence.attempts == (
        {"method": "gold", "residual_mean_px": 0.25, "measurements": 40, "error_px": 0.7, "trust_warnings": ["a"]},
        {"method": "patches", "failed": "no texture"},
        {"method": "projection", "trust_warnings": []},
    )
    assert listener.numbers["residual_mean"] == (0.25, "px")
    assert listener.numbers["measurements"] == (40, "")


@pytest.mark.parametrize(
    ("methods", "asked", "tried", "used"),
    [
        pytest.param(
            {}, {}, ["patches", "projection"], "patches", id="patches that measure it are used where their error is smaller"
        ),
        pytest.param(
            {"patches": gives("patches", 0.6)}, {}, ["patches", "projection"], "patches", id="as its error is measured by theirs"
        ),
        pytest.param(
            {"patches": gives("patches", 0.1, "a")}, {}, ["patches", "projection"], "projection", id="not those with a warning"
        ),
        pytest.param(
            {"patches": fails(StageError("none"))},
            {},
            ["patches", "projection"],
            "projection",
            id="where there are none, it stands",
        ),
        pytest.param({}, {"fallback": False}, ["projection"], "projection", id="without fallback they only measure"),
    ],
)
def test_a_markerless_alignment_is_measured_by_patches_that_may_be_used_instead(by, methods, asked, tried, used):
    found, listener = by(methods, method="projection", **asked)
    assert [each["method"] for each in found.evidence.attempts] == tried
    assert found.method == used
    assert listener.stages.count("align: patches to check") == 1
    assert listener.stages[-1] == "check of the axis"


@pytest.mark.parametrize("fallback", [True, False])
@pytest.mark.parametrize(
    ("patches", "logged", "heard"),
    [
        pytest.param(
            fails(StageError("no texture")),
            {"method": "patches", "failed": "no texture"},
            ["alignment by patches is not possible: no texture"],
            id="cannot be tracked",
        ),
        pytest.param(
            fails(np.linalg.LinAlgError("Singular")),
            {"method": "patches", "failed": "the images hold too little information for it (Singular)"},
            ["alignment by patches is not possible: the images hold too little information for it (Singular)"],
            id="hold too little",
        ),
        pytest.param(
            gives("patches", 0.1, "a", "b"),
            {"method": "patches", "error_px": 0.1, "trust_warnings": ["a", "b"]},
            ["alignment by patches cannot be trusted: a; b"],
            id="cannot be trusted",
        ),
        pytest.param(gives("patches", 0.6), {"method": "patches", "error_px": 0.6, "trust_warnings": []}, [], id="sound"),
    ],
)
def test_what_patches_that_check_come_to_is_told_and_is_an_attempt_where_they_may_be_used(by, fallback, patches, logged, heard):
    found, listener = by({"patches": patches}, method="projection", fallback=fallback)
    assert [each for each in found.evidence.attempts if each["method"] == "patches"] == ([logged] if fallback else [])
    assert [text for text in listener.warnings if text.startswith("alignment by patches")] == heard


@pytest.mark.parametrize("asked", ["patches", "projection"])
@pytest.mark.parametrize(
    ("error_px", "patches", "logged_px"),
    [
        pytest.param(None, gives("patches", 0.2, "a"), None, id="unrecognised views: the error of doubtful patches does not count"),
        pytest.param(np.nan, gives("patches", 0.2, "a"), 0.2, id="an error that is not determined says nothing of patches"),
        pytest.param(1.5, gives("patches", 0.2, "a"), 0.2, id="nor does a known one"),
        pytest.param(None, gives("patches", None, "a"), None, id="no error to remove"),
        pytest.param(None, gives("patches", np.nan, "a"), None, id="nor one that is not a number"),
    ],
)
def test_the_error_of_an_attempt_is_logged_as_it_counts(by, asked, error_px, patches, logged_px):
    found, _ = by({"patches": patches, "projection": gives("projection", error_px, "lost")}, method=asked)
    logged = next(each for each in found.evidence.attempts if each["method"] == "patches")
    assert logged.get("error_px") == logged_px
    assert logged["trust_warnings"] == ["a"]


def test_trusted_patches_keep_their_error_where_projections_recognise_nothing(by):
    found, _ = by({"projection": gives("projection", None, "lost")}, method="projection")
    assert (found.method, found.evidence.error_px, found.evidence.attempts[0]["error_px"]) == ("patches", 0.5, 0.5)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (StageError("there are no beads"), r"^B\.st: alignment by gold failed: there are no beads$"),
        (np.linalg.LinAlgError("Singular"), r"^B\.st: alignment by gold failed: the images hold too little information for it"),
    ],
)
def test_without_fallback_a_method_that_fails_ends_the_work(by, failure, message):
    with pytest.raises(StageError, match=message):
        by({"gold": fails(failure)}, fallback=False)


def test_without_fallback_a_doubtful_result_is_used(by):
    found, listener = by({"gold": gives("gold", 0.1, "a")}, fallback=False)
    assert (found.method, found.evidence.trust_warnings, len(found.evidence.attempts)) == ("gold", ("a",), 1)
    assert listener.stages == ["coarse alignment", "align: gold"]


def test_where_every_method_fails_there_is_no_alignment(by):
    with pytest.raises(StageError, match="No method could align the views"):
        by(dict.fromkeys(METHODS, fails(StageError("no"))))


def test_a_defect_is_no_reason_to_try_another_method(by):
    with pytest.raises(ZeroDivisionError):
        by({"gold": fails(ZeroDivisionError("a defect"))})


def test_every_view_left_out_has_its_reason_and_that_of_the_method_goes_before(by):
    """The method leaves out the last view by itself."""
    found, _ = by({}, excluded={1: "is dark"})
    assert found.evidence.excluded_views == {1: "is dark", 4: "holds nothing that was tracked"}
    seen = {1: "shows no gold", 4: "holds too few beads"}
    found, _ = by({"gold": gives("gold", 0.5, excluded_views=seen)}, excluded={1: "is dark"})
    assert found.evidence.excluded_views == seen


def test_shifts_are_those_of_the_views_that_take_part(by):
    """View n is shifted by 2 n px; the last of five is left out by the method, the second by the request."""
    found, _ = by({"gold": gives("gold", 0.5, shift_px=2.0)}, excluded={1: "is dark"})
    assert found.evidence.shift_max_px == pytest.approx(6)
    assert found.evidence.shift_rms_px == pytest.approx(np.sqrt((0 + 16 + 36) / 3))
    assert found.evidence.axis_angle_nominal_deg == -8.0


def test_defaults_are_those_of_the_template_and_of_the_verdict():
    assert AlignParams().gold_nm == BrtParameters().gold
    assert AlignParams().trust_limit_px == Thresholds().error_poor_px
