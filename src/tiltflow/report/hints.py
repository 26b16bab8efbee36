"""What to try when a series failed, by the class and kind of the error and the stage it came from, or is not good, by its checks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tiltflow.record import FailureEntry, FailureKind
from tiltflow.report.check import Check
from tiltflow.work import Trust


@dataclass(frozen=True, slots=True)
class _Hint:
    """Something to try, for errors of some classes, in some stages, of a kind; what is not given is left open.

    `imod_says` is a pattern for what IMOD's programs print, which is all that tells their errors apart.
    """

    text: str
    errors: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    kind: FailureKind = ""
    imod_says: str = ""

    def fits(self, failure: FailureEntry) -> bool:
        return (
            (not self.errors or failure.error in self.errors)
            and (not self.stages or failure.stage in self.stages)
            and (not self.kind or failure.kind == self.kind)
            and (not self.imod_says or re.search(self.imod_says, failure.reason, re.IGNORECASE) is not None)
        )


_GOLD = (
    "Check the bead diameter (`--gold`, nm) in a view at low tilt, and that there is gold at all. Without gold, use "
    "patch tracking (`--tracking-method 1`) or markerless alignment (`--fiducialless`)."
)

_HINTS = (
    _Hint(
        "Open the file in 3dmod, or look at it with `tiltflow inspect FILE`. The usual cause is an interrupted transfer or a file that "
        "is still being written: compare its size with that on the microscope's computer, copy it again, and run again.",
        ("FormatError",),
    ),
    _Hint(
        "Put the `.mdoc`, or a `.rawtlt` with one angle per line, beside the stack, or give the first angle and the increment: "
        "`--set setupset.copyarg.firstinc=-60,3`. `tiltflow inspect FILE` shows where each value is looked for.",
        ("MissingValueError",),
    ),
    _Hint(
        "Use a larger binning of the aligned stack (`--set runtime.AlignedStack.any.binByFactor=N`), a smaller `--thickness`, or "
        "another scratch folder (`--workdir`).",
        ("ResourceError", "MemoryShortageError", "MemoryError"),
    ),
    _Hint("Run fewer series at once (`--jobs`).", ("MemoryShortageError", "MemoryError")),
    _Hint(
        "Check that the disks have room, and that the share is mounted and writable.",
        ("OSError", "DeliveryError", "PermissionError"),
    ),
    _Hint(_GOLD, ("StageError",), stages=("align: gold",)),
    _Hint(_GOLD, stages=("batchruntomo",), imod_says="bead|seed|gold|fid"),
    _Hint("Try larger patches, or markerless alignment (`--fiducialless`).", stages=("align: patches",)),
    _Hint(
        "Look for dark, blocked or empty views and exclude them: `--set setupset.copyarg.skip=1,2`.",
        ("StageError",),
        stages=("views", "coarse alignment", "align: gold", "align: patches", "align: projection"),
    ),
    _Hint(
        "Compare the number of lines and the tilts of the alignment with those of the stack (`tiltflow inspect`): the file must be of "
        "the very stack that is processed.",
        stages=("alignment given",),
    ),
    _Hint(
        "Read the end of `batchruntomo.log` beside this page: IMOD names the program that failed, and its log. The directive file "
        "beside this page (`.adoc`) can be run by hand.",
        ("EngineError", "CommandError"),
    ),
    _Hint(
        "Use another engine: `tiltflow run --help` lists them under `--engine`.",
        ("EngineError", "CommandError"),
    ),
    _Hint(
        "`tiltflow directives FILE` says whether each directive is used, and suggests the nearest known name for unknown ones.",
        ("DirectiveError", "ParameterError", "UnsupportedError"),
    ),
    _Hint(
        "This is an error in tiltflow, not in your data. Please report it with the log lines below and `run.json`.",
        kind="defect",
    ),
    _Hint("Nothing is wrong: the run was interrupted. Run the same command again to process this series.", kind="interrupted"),
)
AGAIN = "When the cause is removed, run the same command again: finished series are kept, and only this one is processed again."

_FIGURES = ("alignment error", "leave-out error", "residual")
_VIEWS_OUT = "Exclude views that stand out in the plots below (`--set setupset.copyarg.skip=1,2`)."
_BY_METHOD = {
    "gold": "Check the bead diameter (`--gold`, nm) in a view at low tilt. Beads that move with the beam are followed better with local "
    "alignments (`--local-alignments 1`).",
    "patches": "Try larger patches (`--set comparam.xcorr_pt.tiltxcorr.SizeOfPatchesXandY=N,N`) or markerless alignment "
    "(`--fiducialless`), or, where there is gold, follow the beads (`--tracking-method 0`).",
    "projection": "Where there is gold, follow the beads (without `--fiducialless`); where there is texture, patches "
    "(`--tracking-method 1`).",
}
_BY_CHECK = {
    "tilt axis difference": "Give the tilt axis angle of your microscope, with its sign (`--set setupset.copyarg.rotation=A`).",
    "input": "Say what no source gives, in `series.toml` beside the series or by `--set`; `tiltflow inspect FILE` shows where each value "
    "is looked for.",
    "tracks": "Few beads or patches leave little to check the alignment with: ask for more (`--target-number-of-beads N`), or for "
    "another method.",
}
_LOOK = "Look at the XZ slice above: a specimen that is level, with symmetric beads, is aligned whatever the figures say of it."


def what_may_help(method: str, checks: Sequence[Check]) -> tuple[str, ...]:
    """Return what may make a result better, by the checks that are not good; nothing where all are."""
    bad = {check.name for check in checks if check.level is not Trust.GOOD}
    helps = [_VIEWS_OUT, _BY_METHOD[method]] if method in _BY_METHOD and bad.intersection(_FIGURES) else []
    helps += [text for name, text in _BY_CHECK.items() if name in bad]
    return (*helps, _LOOK) if helps else ()


def what_to_try(failure: FailureEntry) -> tuple[str, ...]:
    """Return what may help, the most specific first; never nothing."""
    return (*(hint.text for hint in _HINTS if hint.fits(failure)), AGAIN)
