"""What to try when a series failed, by the class and kind of the error and the stage it came from."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tiltflow.record import FailureEntry, FailureKind


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
    "Check the diameter of the gold (`--gold`, nm) against a view at low tilt, and that there is gold at all. Without it, try "
    "patches (`--tracking-method 1`) or no markers (`--fiducialless`)."
)

_HINTS = (
    _Hint(
        "Open the file in 3dmod or look at it with `tiltflow inspect FILE`: an interrupted transfer or a file that is still being "
        "written is the usual cause. Compare its size with that on the microscope's computer, copy it again, and run again.",
        ("FormatError",),
    ),
    _Hint(
        "Put the `.mdoc` or a `.rawtlt` with one angle per line beside the stack, or give start and step: "
        "`--set setupset.copyarg.firstinc=-60,3`. `tiltflow inspect FILE` shows where each value is looked for.",
        ("MissingValueError",),
    ),
    _Hint(
        "Take a larger binning of the aligned stack (`--set runtime.AlignedStack.any.binByFactor=N`), a smaller `--thickness`, or "
        "another scratch folder (`--workdir`).",
        ("ResourceError", "MemoryShortageError", "MemoryError"),
    ),
    _Hint("Run fewer series at once (`--jobs`).", ("MemoryShortageError", "MemoryError")),
    _Hint(
        "See how full the disks are, and whether the share is mounted and writable.",
        ("OSError", "DeliveryError", "PermissionError"),
    ),
    _Hint(_GOLD, ("StageError",), stages=("align: gold",)),
    _Hint(_GOLD, stages=("batchruntomo",), imod_says="bead|seed|gold|fid"),
    _Hint("Try larger patches, or no markers at all (`--fiducialless`).", stages=("align: patches",)),
    _Hint(
        "Look for dark, blocked or empty views, and leave them out: `--set setupset.copyarg.skip=1,2`.",
        ("StageError",),
        stages=("views", "coarse alignment", "align: gold", "align: patches", "align: projection"),
    ),
    _Hint(
        "Read `batchruntomo.log` beside this page from its end: IMOD names the program that failed, and its log. The directives "
        "beside this page (`.adoc`) can be run by hand.",
        ("EngineError", "CommandError"),
    ),
    _Hint(
        "Run it with `--engine native`, which needs no IMOD.",
        ("EngineError", "CommandError"),
    ),
    _Hint(
        "`tiltflow directives FILE` says of each directive whether it is used, and names the nearest known one.",
        ("DirectiveError", "ParameterError", "UnsupportedError"),
    ),
    _Hint(
        "This is a mistake in tiltflow, not in your data. Report it with the last lines below and `run.json`.",
        kind="defect",
    ),
    _Hint("Nothing is wrong: run the same command again to do this series.", kind="interrupted"),
)
AGAIN = "Run the same command again when the cause is gone: finished series are kept, only this one is done again."


def what_to_try(failure: FailureEntry) -> tuple[str, ...]:
    """Return what may help, the most specific first; never nothing."""
    return (*(hint.text for hint in _HINTS if hint.fits(failure)), AGAIN)
