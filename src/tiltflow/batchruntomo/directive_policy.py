"""Which directives stop a data set, and which are not followed, with the reason.

* A name that is unknown or misspelt stops the data set, as it does in batchruntomo; with `-validation -1` it is not followed.
* A wrong value stops it if its step is run.
* What the engine refuses of *how the alignment is found* (steps 1 to 7) is not followed: residual, leave-out error and estimated error
  tell how good the alignment is all the same.
* What it refuses of *what the data are*, or of what is made from the alignment, stops the data set if its step is run: the files would
  be something else than was asked for.
* What makes no difference here is listed, with what is done instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tiltflow.formats.known_directives import find_known
from tiltflow.recipe.report import DirectiveReport, DirectiveRow

STEP_OF_SECTION: Mapping[str, float] = {
    "Set-up": 0,
    "Preprocessing": 1,
    "Coarse alignment": 2,
    "Choice of tracks": 4,
    "Seeds": 4,
    "Patch tracking": 4,
    "RAPTOR": 4,
    "Bead tracking": 5,
    "Fine alignment": 6,
    "Positioning": 7,
    "Aligned stack": 8,
    "CTF correction": 11,
    "Gold erasing": 12,
    "Filter of the aligned stack": 13,
    "Custom steps": 9,
    "Reconstruction": 14,
    "SIRT": 14,
    "tiltflow's own": 14,
    "Combination of two axes": 15,
    "Trimming": 20,
    "Denoising": 21,
    "Clean-up": 22,
}
"""Section of the catalogue to the step of IMOD 5 that it concerns."""

_STEP_OF: Mapping[str, float] = {
    "runtime.AlignedStack.any.correctCTF": 11,
    "runtime.AlignedStack.any.eraseGold": 12,
    "runtime.AlignedStack.any.filterStack": 13,
    "runtime.ReplaceStep.any.13": 13,
    "runtime.RunAfterStep.any.13": 13,
}
_ALWAYS = 1.0
"""Steps up to this are always gone through: set-up, and x-rays as the raw views are read."""
_POSITIONING = 7.0
_FOLLOWED_HERE = frozenset(
    {"setupset.copyarg.name", "setupset.copyarg.stackext", "setupset.currentStackExt", "setupset.datasetDirectory"}
)
"""Directives that no engine needs, and that decide here where a data set is."""
_NO_CHANGE = ("with this value it changes nothing",)
_OTHER_ENGINE, _OTHER_PROGRAM = "run with --engine imod", "run IMOD's batchruntomo"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What follows from the directives of a data set, each entry a sentence.

    Attributes
    ----------
    wrong
        Names and values that are wrong: batchruntomo's `Incorrect directive(s)`.
    stops
        Other reasons not to do the work.
    not_followed
        Directives that are not followed.
    otherwise
        Directives that make no difference, as the work is done in another way.
    """

    wrong: tuple[str, ...]
    stops: tuple[str, ...]
    not_followed: tuple[str, ...]
    otherwise: tuple[str, ...]


def judge(report: DirectiveReport, first_step: float, last_step: float, *, check_names: bool = True) -> Judgement:
    """Return what follows from the status of every directive when the steps from the first to the last are run."""
    stops = list(report.faults)
    wrong: list[str] = []
    not_followed: list[str] = []
    otherwise: list[str] = []
    for row in report.rows:
        step = step_of(row.name)
        runs = step <= _ALWAYS or first_step <= step <= last_step
        if row.status in ("unknown", "misspelt"):
            (wrong if check_names else not_followed).append(_sentence(row))
        elif row.status == "invalid":
            (wrong if runs else not_followed).append(_sentence(row))
        elif row.status == "refused":
            must_stop = runs and (step < _ALWAYS or step > _POSITIONING)
            (stops if must_stop else not_followed).append(_sentence(row))
        elif row.status == "ignored" and row.name not in _FOLLOWED_HERE and row.reason not in _NO_CHANGE:
            otherwise.append(_sentence(row))
    return Judgement(tuple(wrong), tuple(stops), tuple(not_followed), tuple(otherwise))


def step_of(name: str) -> float:
    """Return the step of IMOD 5 that a directive concerns; 0 for an unknown one.

    >>> step_of("comparam.align.tiltalign.BeamTiltOption"), step_of("runtime.AlignedStack.a.correctCTF")
    (6, 11)
    """
    known = find_known(name)
    return 0 if known is None else _STEP_OF.get(known.name, STEP_OF_SECTION[known.section])


def _sentence(row: DirectiveRow) -> str:
    known = find_known(row.name)
    meaning = f" ({known.meaning})" if known is not None and row.status == "refused" else ""
    return f"{row.name} = {row.value}{meaning}: {row.reason.replace(_OTHER_ENGINE, _OTHER_PROGRAM)}"
