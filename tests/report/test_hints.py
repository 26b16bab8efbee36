"""What to try: specific to the failure, never nothing."""

import pytest

from tiltflow.record import FailureEntry
from tiltflow.report.hints import what_to_try


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (FailureEntry(stage="read", reason="the file is cut", error="FormatError"), "interrupted transfer"),
        (FailureEntry(stage="read", reason="no tilt angles anywhere", error="MissingValueError"), ".rawtlt"),
        (FailureEntry(stage="read", reason="no pixel size", error="MissingValueError"), "setupset.copyarg.pixel"),
        (FailureEntry(stage="plan", reason="needs 9 GB", error="ResourceError"), "binByFactor"),
        (FailureEntry(stage="align: gold", reason="2 beads only", error="StageError"), "--gold"),
        (FailureEntry(stage="batchruntomo", reason="ERROR: tilt", error="EngineError"), "batchruntomo.log"),
        (FailureEntry(stage="check", reason="unknown directive", error="DirectiveError"), "tiltflow directives"),
        (FailureEntry(stage="publish", reason="not mounted", error="DeliveryError"), "mounted"),
        (FailureEntry(stage="x", reason="KeyError: 'a'. This is a defect of tiltflow, not", error="KeyError"), "Please report it"),
        (FailureEntry(stage="x", reason="interrupted (KeyboardInterrupt)", error="KeyboardInterrupt"), "Nothing is wrong"),
    ],
    ids=lambda value: value.error if isinstance(value, FailureEntry) else None,
)
def test_the_hint_fits_the_failure(failure, words):
    assert any(words in hint for hint in what_to_try(failure))


def test_an_unknown_failure_has_a_hint_and_not_all_of_them():
    assert len(what_to_try(FailureEntry(stage="nowhere", reason="nothing", error="Exception"))) == 1


def test_old_records_without_a_class_of_error_have_hints():
    assert what_to_try(FailureEntry(stage="batchruntomo", reason="NO SEED POINTS FOUND"))
