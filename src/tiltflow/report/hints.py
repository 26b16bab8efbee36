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
    """Something to try, for errors of some classes, in some stages, or in all but some, of a kind; what is not given is left open.

    `imod_says` is a pattern for what IMOD's programs print, which is all that tells their errors apart.
    """

    text: str
    errors: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    kind: FailureKind = ""
    imod_says: str = ""

    def fits(self, failure: FailureEntry) -> bool:
        return (
            (not self.errors or failure.error in self.errors)
            and (not self.stages or failure.stage in self.stages)
            and failure.stage not in self.elsewhere
            and (not self.kind or failure.kind == self.kind)
            and (not self.imod_says or re.search(self.imod_says, failure.reason, re.IGNORECASE) is not None)
        )


_GOLD = (
    "Check the bead diameter (`--gold`, nm) in a view at low tilt, and that there is gold at all. Without gold, use "
    "patch tracking (`--tracking-method 1`) or markerless alignment (`--fiducialless`)."
)

_HINTS = (
    _Hint(
        "Look at the file that is named: images in 3dmod or with `tiltflow inspect FILE`, text in an editor. The usual cause is an "
        "interrupted transfer or a file that is still being written: compare its size with that on the microscope's computer, copy it "
        "again, and run again.",
        ("FormatError",),
        elsewhere=("check",),
    ),
    _Hint(
        "The reason begins with a directive: correct the path or the number there (`--set DIRECTIVE=VALUE`), or leave it out. A file "
        "that it names is text: look at it in an editor, and compare its lines with the views of the stack (`tiltflow inspect FILE`).",
        ("FormatError", "LocationError", "MissingValueError"),
        stages=("check",),
    ),
    _Hint(
        "State what the images cannot tell (`--set setupset.copyarg.voltage=300`, `--set setupset.copyarg.defocus=NM`), or correct the "
        "CTF only where the data support it: `--set runtime.Tiltflow.any.cryoCorrections=1` without "
        "`runtime.AlignedStack.any.correctCTF=1`.",
        ("StageError",),
        stages=("ctf",),
    ),
    _Hint(
        "Weight by exposure only where the data support it: `--set runtime.Tiltflow.any.cryoCorrections=1` without "
        "`runtime.AlignedStack.any.filterStack=1`; or state exposure and order (`comparam.mtffilter.mtffilter.FixedImageDose`, "
        "`setupset.copyarg.dosesym`).",
        ("StageError",),
        stages=("check",),
    ),
    _Hint(
        "Find the beads in a volume, whatever the alignment (`--set runtime.AlignedStack.any.eraseGold=2`), or leave the gold in place "
        "(`--set runtime.AlignedStack.any.eraseGold=0`).",
        ("StageError",),
        stages=("gold",),
    ),
    _Hint(
        "Put the `.mdoc`, or a `.rawtlt` with one angle per line, beside the stack, or give the first angle and the increment: "
        "`--set setupset.copyarg.firstinc=-60,3`. `tiltflow inspect FILE` shows where each value is looked for.",
        ("MissingValueError",),
        stages=("read",),
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
    "tilt scatter": "Compare the tilts with those of the microscope (`tiltflow inspect FILE`), and their order with that of the views. "
    "If they are right, more beads or larger patches keep the tilts in place.",
    "hand": "Compare `InvertTiltAngles`, the sign of the tilts and the tilt axis angle with a series whose hand is known.",
    "given defocus": "Leave the defocus out, so that it is estimated from the images, or correct it or `TargetDefocus`.",
    "exposure": "State the order as it was (`setupset.copyarg.dosesym`, `comparam.mtffilter.mtffilter.BidirectionalNumViews`), or leave "
    "it out, so that the `.mdoc` tells it.",
    "grey values": "Make the volume again with a larger factor (`--set comparam.tilt.tilt.SCALE=0,FACTOR`), or of reals "
    "(`--set comparam.tilt.tilt.MODE=2`).",
    "tracks": "Few beads or patches leave little to check the alignment with: ask for more (`--target-number-of-beads N`), or for "
    "another method.",
}
_NOT_OF_ALIGNMENT = {"hand", "given defocus", "exposure", "grey values"}
"""Checks of which the picture of the alignment tells nothing."""
_LOOK = "Look at the XZ slice above: a specimen that is level, with {}, is aligned whatever the figures say of it."


def what_may_help(method: str, checks: Sequence[Check], *, gold_erased: bool = False) -> tuple[str, ...]:
    """Return what may make a result better, by the checks that are not good; nothing where all are."""
    bad = {check.name for check in checks if check.level is not Trust.GOOD}
    helps = [_VIEWS_OUT, _BY_METHOD[method]] if method in _BY_METHOD and bad.intersection(_FIGURES) else []
    helps += [text for name, text in _BY_CHECK.items() if name in bad]
    if bad - _NOT_OF_ALIGNMENT and helps:
        helps.append(_LOOK.format("even edges" if gold_erased else "symmetric beads"))
    return tuple(helps)


def what_to_try(failure: FailureEntry) -> tuple[str, ...]:
    """Return what may help, the most specific first; never nothing."""
    return (*(hint.text for hint in _HINTS if hint.fits(failure)), AGAIN)
