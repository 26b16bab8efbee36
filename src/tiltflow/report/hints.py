"""What to try when a series failed, by the kind of error and the stage it came from."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tiltflow.record import FailureEntry


@dataclass(frozen=True, slots=True)
class _Hint:
    """Something to try, for errors of some classes (any if empty), in stages and with reasons that match a pattern."""

    text: str
    errors: tuple[str, ...] = ()
    stage: str = ""
    reason: str = ""

    def fits(self, failure: FailureEntry) -> bool:
        return (
            (not self.errors or failure.error in self.errors)
            and re.search(self.stage, failure.stage, re.IGNORECASE) is not None
            and re.search(self.reason, failure.reason, re.IGNORECASE) is not None
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
        reason="tilt|angle",
    ),
    _Hint(
        "Give the value as a directive: `--set setupset.copyarg.pixel=SIZE_IN_NM`, `--set setupset.copyarg.rotation=DEGREES`.",
        ("MissingValueError",),
        reason="pixel|axis|rotation",
    ),
    _Hint(
        "Use a larger binning of the aligned stack (`--set runtime.AlignedStack.any.binByFactor=N`), a smaller `--thickness`, or "
        "another scratch folder (`--workdir`).",
        ("ResourceError", "MemoryError"),
    ),
    _Hint("Run fewer series at once (`--jobs`).", ("ResourceError", "MemoryError"), reason="memory"),
    _Hint(
        "Check that the disks have room, and that the share is mounted and writable.",
        ("OSError", "DeliveryError", "PermissionError"),
    ),
    _Hint(
        "Check the bead diameter (`--gold`, nm) in a view at low tilt, and that there is gold at all. Without gold, use "
        "patch tracking (`--tracking-method 1`) or markerless alignment (`--fiducialless`).",
        stage="bead|gold|batchruntomo",
        reason="bead|seed|gold|fid",
    ),
    _Hint("Try larger patches, or markerless alignment (`--fiducialless`).", stage="patch"),
    _Hint(
        "Look for dark, blocked or empty views and exclude them: `--set setupset.copyarg.skip=1,2`.",
        ("StageError",),
        stage="view|coarse|align",
    ),
    _Hint(
        "Read the end of `batchruntomo.log` beside this page: IMOD names the program that failed, and its log. The directive file "
        "beside this page (`.adoc`) can be run by hand.",
        ("EngineError", "CommandError"),
    ),
    _Hint(
        "Use `--engine native`, which does not need IMOD.",
        ("EngineError", "CommandError", "UnsupportedError"),
        reason="imod|batchruntomo",
    ),
    _Hint(
        "`tiltflow directives FILE` says whether each directive is used, and suggests the nearest known name for unknown ones.",
        ("DirectiveError", "ParameterError", "UnsupportedError"),
    ),
    _Hint(
        "This is an error in tiltflow, not in your data. Please report it with the log lines below and `run.json`.",
        reason="defect of tiltflow",
    ),
    _Hint("Nothing is wrong: the run was interrupted. Run the same command again to process this series.", reason="^interrupted"),
)
AGAIN = "When the cause is removed, run the same command again: finished series are kept, and only this one is processed again."


def what_to_try(failure: FailureEntry) -> tuple[str, ...]:
    """Return what may help, the most specific first; never nothing."""
    return (*(hint.text for hint in _HINTS if hint.fits(failure)), AGAIN)
