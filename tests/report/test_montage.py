"""A montage on the page: its checks, its plot, and the text for a paper."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from tests.report.conftest import VIEWS

from tiltflow.record import MontageEntry, SeriesRecord
from tiltflow.report.check import Check
from tiltflow.report.checks import examine
from tiltflow.report.methods import describe_methods
from tiltflow.report.montage_plots import montage_plots
from tiltflow.report.verdict import judge
from tiltflow.work import Thresholds, Trust

LIMITS = Thresholds()


@pytest.fixture
def montage(record: SeriesRecord) -> SeriesRecord:
    record.montage = MontageEntry(
        columns=2,
        rows=2,
        piece_px=(256, 256),
        overlap_px=(32, 32),
        error_px=0.09,
        error_per_view_px=[0.09] * VIEWS,
        moved_px=3.2,
        deviation_px=0.7,
        edges_measured=100,
        edges_doubted=0,
    )
    return record


def checks(record: SeriesRecord) -> dict[str, Check]:
    return {check.name: check for check in examine(record, LIMITS)}


def entry_of(record: SeriesRecord) -> MontageEntry:
    assert record.montage is not None
    return record.montage


def test_views_taken_in_one_piece_say_nothing_of_it(record: SeriesRecord) -> None:
    assert "stitching error" not in checks(record)
    assert list(montage_plots(record)) == []


@pytest.mark.parametrize(
    ("error", "level"), [(0.09, Trust.GOOD), (0.5, Trust.GOOD), (0.51, Trust.DOUBTFUL), (1.0, Trust.DOUBTFUL), (1.01, Trust.POOR)]
)
def test_pieces_are_to_be_placed_as_well_as_views_are_aligned(montage: SeriesRecord, error: float, level: Trust) -> None:
    entry_of(montage).error_px = error
    found = checks(montage)["stitching error"]
    assert found.level is level
    assert f"placed to {error:.2f} px by their overlaps, 3.2 px from where they were written" in found.finding


@pytest.mark.parametrize(("doubted", "level"), [(1, Trust.GOOD), (5, Trust.GOOD), (6, Trust.DOUBTFUL)])
def test_a_wrong_overlap_in_twenty_is_told_and_more_are_doubted(montage: SeriesRecord, doubted: int, level: Trust) -> None:
    assert "overlaps doubted" not in checks(montage)
    entry_of(montage).edges_doubted = doubted
    found = checks(montage)["overlaps doubted"]
    assert found.level is level
    assert found.finding.startswith(f"{doubted} of 100 overlaps")


@pytest.mark.parametrize(
    ("field", "name", "level", "judged"),
    [
        ("pieces_missing", "pieces missing", Trust.GOOD, False),
        ("pieces_blank", "pieces blank", Trust.GOOD, False),
        ("pieces_expected", "pieces expected", Trust.DOUBTFUL, True),
        ("pieces_doubted", "pieces doubted", Trust.DOUBTFUL, True),
    ],
)
def test_pieces_that_nothing_placed_are_named(montage: SeriesRecord, field: str, name: str, level: Trust, judged: bool) -> None:
    setattr(entry_of(montage), field, [(7, 2)])
    found = checks(montage)[name]
    assert (found.level, found.judged) == (level, judged)
    assert found.finding.startswith("piece 2 of view 7 is")
    setattr(entry_of(montage), field, [(view, 1) for view in range(1, 8)])
    assert checks(montage)[name].finding.startswith("pieces 1 of view 1, 1 of view 2, 1 of view 3, 1 of view 4 and 3 more are")
    assert (judge(montage, LIMITS).level is Trust.GOOD) == (level is Trust.GOOD)


def test_a_blank_piece_is_not_doubted_for_want_of_an_overlap_as_well(montage: SeriesRecord) -> None:
    entry_of(montage).pieces_blank = entry_of(montage).pieces_expected = [(3, 1)]
    assert "pieces expected" not in checks(montage)


@pytest.mark.parametrize(("moved", "words"), [(True, "placed anew by the tracks"), (False, "left where their overlaps place them")])
def test_what_the_tracks_say_of_the_pieces_is_told(montage: SeriesRecord, moved: bool, words: str) -> None:
    entry = entry_of(montage)
    entry.moved_by_tracks, entry.leave_out_px = moved, (0.2, 0.15)
    found = checks(montage)["pieces by tracks"]
    assert words in found.finding
    assert "0.20 px without, 0.15 px with" in found.finding
    assert not found.judged


def test_the_error_of_every_view_is_drawn(montage: SeriesRecord) -> None:
    (plot,) = montage_plots(montage)
    assert ET.fromstring(plot.svg).get("aria-label") == plot.caption.shows
    entry_of(montage).error_per_view_px = [0.1]
    assert list(montage_plots(montage)) == []


def test_the_text_for_a_paper_says_how_views_were_stitched(montage: SeriesRecord) -> None:
    text = str(describe_methods(montage))
    assert "stitched from 2 x 2 pieces of 256 x 256 pixels" in text
    assert "standard error 0.09 pixels" in text
    assert "placed anew" not in text
    entry_of(montage).moved_by_tracks = True
    assert "placed anew by the bundle adjustment" in str(describe_methods(montage))
