"""What to try: specific to the failure, never nothing."""

import pytest

from tiltflow.record import FailureEntry
from tiltflow.report.check import Check
from tiltflow.report.hints import AGAIN, what_may_help, what_to_try
from tiltflow.work import Trust

TRANSFER = "interrupted transfer"
ANGLES = ".rawtlt"
SMALLER = "binByFactor"
FEWER = "Run fewer series at once"
DISKS = "disks have room"
GOLD = "Check the bead diameter"
PATCHES = "Try larger patches"
VIEWS = "exclude them"
LOG = "batchruntomo.log"
OTHER_ENGINE = "another engine"
DIRECTIVES = "tiltflow directives"
REPORT = "Please report it"
NOTHING_WRONG = "Nothing is wrong"
NAMED = "begins with a directive"
OPTICS = "what the images cannot tell"
EXPOSURES = "Weight by exposure only where"
ERASE = "eraseGold=2"
ALL = (
    TRANSFER,
    ANGLES,
    SMALLER,
    FEWER,
    DISKS,
    GOLD,
    PATCHES,
    VIEWS,
    LOG,
    OTHER_ENGINE,
    DIRECTIVES,
    REPORT,
    NOTHING_WRONG,
    NAMED,
    OPTICS,
    EXPOSURES,
    ERASE,
)


@pytest.mark.parametrize(
    ("stage", "error", "kind", "hints"),
    [
        ("read", "FormatError", "", {TRANSFER}),
        ("read", "MissingValueError", "", {ANGLES}),
        ("plan", "ResourceError", "", {SMALLER}),
        ("plan", "MemoryShortageError", "", {SMALLER, FEWER}),
        ("reconstruction", "MemoryError", "", {SMALLER, FEWER}),
        ("publish", "OSError", "", {DISKS}),
        ("publish", "PermissionError", "", {DISKS}),
        ("publish", "DeliveryError", "", {DISKS}),
        ("align: gold", "StageError", "", {GOLD, VIEWS}),
        ("align: gold", "MemoryError", "", {SMALLER, FEWER}),
        ("align: patches", "StageError", "", {PATCHES, VIEWS}),
        ("align: projection", "StageError", "", {VIEWS}),
        ("coarse alignment", "StageError", "", {VIEWS}),
        ("views", "StageError", "", {VIEWS}),
        ("gen_zarr", "StageError", "", set()),
        ("batchruntomo", "EngineError", "", {LOG, OTHER_ENGINE}),
        ("batchruntomo", "CommandError", "", {LOG, OTHER_ENGINE}),
        ("x-rays", "FormatError", "", {TRANSFER}),
        ("check", "FormatError", "", {NAMED}),
        ("check", "LocationError", "", {NAMED}),
        ("check", "MissingValueError", "", {NAMED}),
        ("check", "StageError", "", {EXPOSURES}),
        ("ctf", "StageError", "", {OPTICS}),
        ("gold", "StageError", "", {ERASE}),
        ("check", "DirectiveError", "", {DIRECTIVES}),
        ("check", "ParameterError", "", {DIRECTIVES}),
        ("check", "UnsupportedError", "", {DIRECTIVES}),
        ("reconstruction", "KeyError", "defect", {REPORT}),
        ("reconstruction", "KeyboardInterrupt", "interrupted", {NOTHING_WRONG}),
        ("worker", "", "", set()),
        ("nowhere", "Exception", "", set()),
    ],
)
def test_the_hints_follow_from_class_stage_and_kind_of_the_failure(stage, error, kind, hints):
    # The words of our own messages change nothing: they are written for people.
    words = "interrupted: no tilt angle, pixel or memory; a bead of gold; batchruntomo, IMOD. This is a defect of tiltflow"
    for reason in ("", words) if stage != "batchruntomo" else ("",):
        found = what_to_try(FailureEntry(stage=stage, reason=reason, error=error, kind=kind))
        assert {hint for hint in ALL if any(hint in text for text in found)} == hints
        assert found[-1] == AGAIN


@pytest.mark.parametrize(
    ("reason", "gold"),
    [
        ("batchruntomo gave up. IMOD says:\n  ERROR: beadtrack - NO SEED POINTS FOUND", True),
        ("batchruntomo gave up. IMOD says:\n  ERROR: tiltalign - too few fiducials", True),
        ("batchruntomo gave up. IMOD says:\n  ERROR: newstack - OPENING FILE", False),
    ],
)
def test_what_imods_programs_print_tells_whether_the_gold_is_to_blame(reason, gold):
    found = what_to_try(FailureEntry(stage="batchruntomo", reason=reason, error="EngineError"))
    assert any(GOLD in text for text in found) == gold


@pytest.mark.parametrize(
    ("method", "bad", "hints"),
    [
        ("gold", (), set()),
        ("gold", ("residual",), {"skip=1,2", "--gold", "XZ slice"}),
        ("patches", ("leave-out error",), {"skip=1,2", "SizeOfPatchesXandY", "XZ slice"}),
        ("projection", ("alignment error", "tilt axis difference"), {"skip=1,2", "setupset.copyarg.rotation", "XZ slice"}),
        ("given", ("input",), {"series.toml", "XZ slice"}),
        ("gold", ("tilt gap",), set()),
        ("gold", ("tilt scatter",), {"tiltflow inspect", "XZ slice"}),
        ("gold", ("hand",), {"InvertTiltAngles"}),
        ("gold", ("given defocus",), {"TargetDefocus"}),
        ("gold", ("exposure",), {"dosesym"}),
        ("gold", ("grey values",), {"SCALE"}),
        ("gold", ("grey values", "residual"), {"SCALE", "skip=1,2", "--gold", "XZ slice"}),
    ],
)
def test_what_may_help_follows_from_the_checks_that_are_not_good(method, bad, hints):
    checks = [Check(name, Trust.GOOD, "") for name in ("residual", "tracks")] + [Check(name, Trust.POOR, "") for name in bad]
    found = what_may_help(method, checks)
    every = {"skip=1,2", "--gold", "SizeOfPatchesXandY", "setupset.copyarg.rotation", "series.toml", "number-of-beads", "XZ slice"}
    every |= {"InvertTiltAngles", "TargetDefocus", "dosesym", "SCALE"} | hints
    assert {hint for hint in every if any(hint in text for text in found)} == hints


def test_a_text_file_is_not_to_be_opened_in_3dmod():
    (first, *_) = what_to_try(FailureEntry(stage="read", reason="", error="FormatError"))
    assert "images in 3dmod" in first
    assert "text in an editor" in first


@pytest.mark.parametrize(("gold_erased", "said"), [(False, "symmetric beads"), (True, "even edges")])
def test_where_gold_was_erased_no_beads_are_to_be_looked_at(gold_erased, said):
    found = what_may_help("gold", [Check("residual", Trust.POOR, "")], gold_erased=gold_erased)
    assert f"with {said}, is aligned" in found[-1]
