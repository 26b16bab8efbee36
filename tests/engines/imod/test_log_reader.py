"""What batchruntomo prints is understood: recorded runs of IMOD 4.8.2, and the lines of IMOD 5."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiltflow.engines.imod.log_reader import LogReader


def read(data: Path, run: str) -> LogReader:
    reader = LogReader()
    for line in (data / "imod_runs" / run / "batchruntomo.log").read_text().splitlines():
        reader.take(line)
    return reader


@pytest.mark.parametrize("run", ["gold", "patches", "fiducialless"])
def test_a_run_that_completed_has_no_complaint(data, run):
    reader = read(data, run)
    assert reader.succeeded
    assert not reader.aborted
    assert reader.complaints == []
    assert reader.fraction > 0.9


@pytest.mark.parametrize(
    ("run", "where", "aborted", "succeeded", "complaint"),
    [
        (
            "no_beads_fails",
            "autofidseed.com (Finding seed points for fiducial model)",
            True,
            False,
            "ABORT SET: An error occurred running autofidseed.com",
        ),
        (
            "cryo_gold_fails",
            "align.com (Doing fine alignment with no distortion or local alignments, with robust fitting)",
            False,
            False,
            "ERROR: TILTALIGN - Weighting whole contours can be done only with a patch track model",
        ),
        (
            "cryo_patches_robust_fails",
            "after trimvol.com",
            False,
            True,
            "ERROR: TILTALIGN - TOO FEW DATA POINTS TO DO ROBUST FITTING",
        ),
    ],
)
def test_a_failure_names_the_command_file_that_failed_and_quotes_imod(data, run, where, aborted, succeeded, complaint):
    reader = read(data, run)
    assert reader.where == where
    assert (reader.aborted, reader.succeeded) == (aborted, succeeded)
    assert complaint in reader.complaints
    assert len(reader.complaints) == len(set(reader.complaints))


def test_progress_moves_with_every_command_file_and_never_back(data):
    reader, fractions = LogReader(), []
    for line in (data / "imod_runs" / "gold" / "batchruntomo.log").read_text().splitlines():
        reader.take(line)
        fractions.append(reader.fraction)
    assert fractions == sorted(fractions)
    assert len(set(fractions)) >= 9


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        ([], "its start"),
        (["Reached step 5"], "step 5"),
        (["Reached step 5", "Successfully finished track.com   in 00:04.1"], "step 5, after track.com"),
        (["Reached step 6", "Running align.com"], "step 6, align.com (Running align.com)"),
    ],
)
def test_the_steps_of_imod_5_are_named_too(lines, where):
    reader = LogReader()
    for line in lines:
        reader.take(line)
    assert reader.where == where


def test_the_steps_of_imod_5_are_its_progress():
    reader = LogReader()
    for step, fraction in (("11", 0.5), ("14.5", 14.5 / 22), ("2", 14.5 / 22), ("22", 1.0)):
        reader.take(f"Reached step {step}")
        assert reader.fraction == pytest.approx(fraction)
