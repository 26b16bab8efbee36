"""A montaged series: by which signs it is noticed, where its pieces are read, and that everything is counted by views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.formats.beside import messages
from tests.montages import PIECE, STEP, TILTS, VIEWS, coordinates, mdoc_text, write_pieces

from tiltflow.errors import FormatError, MissingValueError, ParameterError, TiltflowError
from tiltflow.formats.edge_displacements import (
    displacements_of,
    read_edge_displacements,
    render_edge_displacements,
    write_edge_displacements,
)
from tiltflow.formats.identity import identity_of
from tiltflow.formats.mdoc import read_mdoc
from tiltflow.formats.piece_lists import coordinates_of, parse_piece_list, read_piece_list, render_piece_list, write_piece_list
from tiltflow.formats.series import SeriesHints, read_series
from tiltflow.formats.tilts import write_tilts
from tiltflow.piece_grid import PieceGrid

FRAME = (56, 56)
GOLDEN_EDGES = [
    ("n22", "montage_two_by_two"),
    ("n21", "montage_two_by_one"),
    ("n22", "montage_two_by_two_own_ecd"),
]


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    return tmp_path / "B.st"


# Noticed


@pytest.mark.parametrize(
    ("beside", "where"),
    [
        (("pl", "rawtlt"), "B.pl, 5 views of 2 x 2 pieces of 32 x 32 pixels"),
        (("header",), "extended header (SerialEM), 5 views of 2 x 2 pieces of 32 x 32 pixels"),
        (("mdoc",), "B.st.mdoc, 5 views of 2 x 2 pieces of 32 x 32 pixels"),
        (
            ("pl", "header", "mdoc"),
            "B.pl, 5 views of 2 x 2 pieces of 32 x 32 pixels; extended header (SerialEM) and B.st.mdoc agree",
        ),
    ],
)
@pytest.mark.parametrize("asked", [None, True])
def test_piece_coordinates_make_a_montage_and_are_told(beside, where, asked, stack):
    series = read_series(write_pieces(stack, coordinates(), beside), SeriesHints(montage=asked))
    assert series.provenance["montage"] == where
    assert series.montage is not None
    assert (series.montage.columns, series.montage.rows, series.montage.overlap_px) == (2, 2, (PIECE - STEP, PIECE - STEP))
    assert series.shape == (VIEWS, *FRAME)
    assert series.included.shape == series.tilt_deg.shape == (VIEWS,)
    np.testing.assert_allclose(series.tilt_deg, TILTS)
    assert series.problems == ()


@pytest.mark.parametrize("beside", [("pl", "rawtlt"), ("header",), ("mdoc",)])
def test_data_that_are_a_montage_are_no_ordinary_series_because_someone_says_so(beside, stack):
    write_pieces(stack, coordinates(), beside)
    with pytest.raises(
        ParameterError, match=r"B\.st: is it a montage\? .*is 0, but its 20 sections .*leave montage out or set it to 1"
    ):
        read_series(stack, SeriesHints(montage=False))


def test_a_montage_that_is_asked_for_without_coordinates_says_where_they_were_looked_for(stack):
    write_pieces(stack, coordinates(), ("rawtlt",))
    with pytest.raises(MissingValueError) as caught:
        read_series(stack, SeriesHints(montage=True))
    for text in (
        "B.st: montage",
        "20 sections",
        "B.pl: no such file",
        "extended header: none",
        "B.st.mdoc: no such file",
        "into B.pl",
    ):
        assert text in str(caught.value)


@pytest.mark.parametrize("montage", [0, 1])
@pytest.mark.parametrize("asked", [None, False])
@pytest.mark.parametrize("listed", [(), ("pl",)])
def test_pieces_that_all_lie_at_one_corner_are_views(montage, asked, listed, stack):
    alone = np.array([(0, 0, view) for view in range(VIEWS)])
    write_pieces(stack, alone, ("header", "mdoc", *listed))
    Path(f"{stack}.mdoc").write_text(mdoc_text(alone, TILTS, montage))
    series = read_series(stack, SeriesHints(montage=asked))
    assert (series.montage, series.shape) == (None, (VIEWS, PIECE, PIECE))
    assert "montage" not in series.provenance
    assert bool(series.problems) == (montage == 1 and asked is None and not listed)


@pytest.mark.parametrize("asked", [None, False, True])
def test_a_piece_list_of_one_corner_says_that_there_are_no_pieces_whatever_a_header_says(asked, stack):
    write_pieces(stack, coordinates(), ("header",))
    write_piece_list(stack.with_suffix(".pl"), [(0, 0, section) for section in range(20)])
    if asked:
        with pytest.raises(MissingValueError, match=r"Tried B\.pl: all sections have the same corner; extended header"):
            read_series(stack, SeriesHints(montage=True))
        return
    series = read_series(stack, SeriesHints(montage=asked))
    assert (series.montage, series.shape[0]) == (None, 20)
    assert "make another grid; used: 20 views of 1 x 1 pieces of 32 x 32 pixels from B.pl" in messages(series)


def test_montage_1_in_the_mdoc_without_coordinates_is_doubted(stack):
    write_pieces(stack, coordinates(), ("mdoc",))
    mdoc = Path(f"{stack}.mdoc")
    mdoc.write_text("".join(line for line in mdoc.read_text().splitlines(keepends=True) if not line.startswith("PieceC")))
    series = read_series(stack)
    assert "it says Montage = 1" in messages(series)
    assert "give B.pl" in series.doubts["tilt_deg"]


@pytest.mark.parametrize("flag", [1, 0])
def test_angles_that_repeat_in_runs_are_thought_of_as_those_of_pieces(flag, stack):
    write_pieces(stack, coordinates(), ("mdoc",))
    mdoc = Path(f"{stack}.mdoc")
    text = mdoc.read_text().replace("Montage = 1", f"Montage = {flag}")
    mdoc.write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith("PieceC")))
    found = messages(read_series(stack))
    assert ("it says Montage = 1" in found) == (flag == 1)
    said = "the angles repeat in runs of 4, as those of the pieces of a montage do: 20 sections and 5 angles. If each view is a montage"
    assert (said in found) == (flag == 0)
    assert "repeat in runs" not in messages(read_series(stack, SeriesHints(montage=False)))


def test_a_list_of_fewer_angles_thinks_of_a_montage(stack):
    write_pieces(stack, coordinates(), ("rawtlt",))
    with pytest.raises(FormatError, match=r"20 sections and 5 angles: if each view is a montage of 4 pieces, give B\.pl"):
        read_series(stack)
    write_tilts(stack.with_suffix(".rawtlt"), TILTS[:3])
    with pytest.raises(FormatError) as caught:
        read_series(stack)
    assert "montage" not in str(caught.value)  # 20 sections are no three views


def test_a_bare_stack_thinks_of_a_montage(stack):
    write_pieces(stack, coordinates(), ())
    with pytest.raises(MissingValueError, match=r"no tilt angles for 20 views.*pieces of a montage, give B\.pl as well"):
        read_series(stack)
    write_piece_list(stack.with_suffix(".pl"), coordinates())
    with pytest.raises(MissingValueError, match="no tilt angles for 5 views"):
        read_series(stack)


# Read


@pytest.mark.parametrize("change", ["another grid", "other sections", "other distances"])
def test_a_source_that_disagrees_is_told_and_the_better_one_is_used(change, stack):
    pieces = coordinates()
    other = pieces.copy()
    if change == "another grid":
        other = coordinates(4, 1)
    elif change == "other sections":
        other = pieces[::-1]
    else:
        other[:, 0] += other[:, 0] // 12
    write_pieces(stack, other, ("header",))
    write_piece_list(stack.with_suffix(".pl"), pieces)
    series = read_series(stack)
    assert series.montage is not None
    np.testing.assert_array_equal(coordinates_of(series.montage), pieces)
    assert series.provenance["montage"].startswith("B.pl, ")
    assert "extended header (SerialEM): the piece coordinates there" in messages(series)


def test_coordinates_beyond_the_sign_of_short_integers_are_read(stack):
    pieces = coordinates()
    pieces[:, :2] += 40000
    series = read_series(write_pieces(stack, pieces, ("header",)))
    assert series.montage is not None
    np.testing.assert_array_equal(coordinates_of(series.montage), coordinates())


@pytest.mark.parametrize("order", ["reversed", "shuffled"])
def test_the_order_of_sections_is_free(order, stack, rng):
    pieces = coordinates()[::-1] if order == "reversed" else rng.permutation(coordinates())
    series = read_series(write_pieces(stack, pieces, ("header", "mdoc", "rawtlt")))
    assert series.montage is not None
    np.testing.assert_array_equal(coordinates_of(series.montage), pieces)
    np.testing.assert_allclose(series.tilt_deg, TILTS)
    assert series.problems == ()


def test_gaps_of_z_are_closed_and_told(stack):
    pieces = coordinates()
    pieces[pieces[:, 2] > 1, 2] += 2
    series = read_series(write_pieces(stack, pieces))
    assert series.shape[0] == VIEWS
    assert "no piece belongs to view z = 2: the views behind it move up, 5 in all" in messages(series)


def test_missing_pieces_are_told(stack):
    series = read_series(write_pieces(stack, np.delete(coordinates(), [2, 9], axis=0), ("pl", "header", "mdoc")))
    assert series.montage is not None
    assert series.montage.sections == 18
    assert "2 pieces of 20 are missing, in view 1, 3" in messages(series)
    np.testing.assert_allclose(series.tilt_deg, TILTS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0 0 0\n24 0 0\n", "has 2 lines, but B.st has 20 sections; write a line x y z for each section, or remove the file"),
        ("", "is empty; write a line x y z for each section"),
        ("0 0\n", "line 1: '0 0' is not three whole numbers x y z"),
        ("0 0 0\n24 1.5 0\n", "line 2: '24 1.5 0' is not three whole numbers"),
        ("0 0 99999999999\n", "line 1: '0 0 99999999999' lies outside of any montage"),
        (render_piece_list(coordinates() * (1, 2, 1)), "neighbours along y are 48 pixels apart and 32 wide"),
        (render_piece_list(coordinates() + (np.arange(20)[:, None] % 3 * (1, 0, 0))), "on no regular grid"),
        (render_piece_list(coordinates() + (np.arange(20)[:, None] % 3 * (5, 0, 0))), "correct it"),
        (render_piece_list(np.r_[coordinates()[:19], [(24, 0, 4)]]), "both have the piece coordinates 24 0 4"),
        (render_piece_list(np.r_[coordinates()[:18], [(100000, 0, 4), (100000, 99999, 4)]]), "on no regular grid"),
        (render_piece_list(np.r_[coordinates()[:18], [(10000, 0, 4), (23, 12000, 4)]]), "places in all views for 20 pieces"),
    ],
)
def test_a_piece_list_that_cannot_be_meant_names_file_value_and_remedy(text, says, stack):
    write_pieces(stack, coordinates(), ("header", "rawtlt"))
    stack.with_suffix(".pl").write_text(text)
    with pytest.raises(FormatError) as caught:
        read_series(stack)
    assert str(stack.with_suffix(".pl")) in str(caught.value)
    assert says in str(caught.value)


def test_a_piece_list_that_does_not_fit_is_no_hindrance_where_a_person_says_that_there_are_no_pieces(stack, tmp_path, write_series):
    write_series(stack)
    stack.with_suffix(".pl").write_text("0 0 0\n24 0 0\n")
    series = read_series(stack, SeriesHints(montage=False))
    assert series.montage is None
    assert "has 2 lines, but B.st has 5 sections" in messages(series)


def test_aligned_coordinates_in_place_of_the_nominal_ones_are_refused_with_the_remedy(stack, rng):
    pieces = coordinates()
    pieces[:, :2] += rng.integers(-3, 4, (len(pieces), 2))
    write_pieces(stack, pieces, ("mdoc",))
    with pytest.raises(FormatError, match=r"B\.st: piece coordinates \(B\.st\.mdoc\): .*write the right ones into B\.pl"):
        read_series(stack)
    write_piece_list(stack.with_suffix(".pl"), coordinates())
    series = read_series(stack)
    assert series.montage is not None
    assert "B.st.mdoc: " in messages(series)


# Counted by views


def test_what_a_section_is_given_becomes_what_its_view_has(stack):
    series = read_series(write_pieces(stack, coordinates(), ("header", "mdoc")))
    assert series.exposure is not None
    np.testing.assert_allclose(series.exposure, 3)  # each spot of the specimen is in one piece
    assert series.exposure_before is not None
    np.testing.assert_allclose(series.exposure_before, 3 * np.arange(VIEWS))
    assert series.acquired is not None
    np.testing.assert_array_equal(series.acquired, np.arange(VIEWS))
    assert series.pixel_size_angstrom == 10


def test_views_are_excluded_by_their_own_numbers(stack):
    write_pieces(stack, coordinates())
    np.testing.assert_array_equal(read_series(stack, SeriesHints(exclude_views=(5,))).included, [True] * 4 + [False])
    with pytest.raises(ParameterError, match=r"view 6 is to be excluded, but B\.st has views 1 to 5"):
        read_series(stack, SeriesHints(exclude_views=(6,)))


def test_first_tilt_and_increment_count_views(stack):
    write_pieces(stack, coordinates(), ("pl",))
    series = read_series(stack, SeriesHints(first_tilt_deg=-40, tilt_increment_deg=20))
    np.testing.assert_allclose(series.tilt_deg, TILTS)


def test_one_angle_a_section_is_refused_for_a_montage(stack):
    write_pieces(stack, coordinates())
    write_tilts(stack.with_suffix(".rawtlt"), np.repeat(TILTS, 4))
    with pytest.raises(FormatError, match=r"has 20 angles, but B\.st has 5 views; write one angle a view"):
        read_series(stack)


def test_pieces_of_a_view_at_unlike_tilts_are_told(stack):
    pieces = coordinates()
    write_pieces(stack, pieces, ("mdoc", "rawtlt"))
    Path(f"{stack}.mdoc").write_text(mdoc_text(pieces, np.repeat(TILTS, 4) + 5 * (np.arange(20) == 6)))
    series = read_series(stack)
    assert "the pieces of view 2 have tilts that differ by 5.00 degrees: that of its first piece, -20.00, is used" in messages(
        series
    )


@pytest.mark.parametrize("rises", [True, False])
def test_an_earlier_dose_that_counts_the_other_pieces_is_not_the_dose_of_a_spot(rises, stack):
    pieces = coordinates()
    write_pieces(stack, pieces, ("mdoc",))
    mdoc = Path(f"{stack}.mdoc")
    text = mdoc.read_text()
    for section in range(len(pieces)):
        prior = 3 * section if rises else 30 * (section // 4)
        text = text.replace(f"[ZValue = {section}]", f"[ZValue = {section}]\nPriorRecordDose = {prior}")
    mdoc.write_text(text)
    series = read_series(stack)
    assert series.exposure_before is not None
    np.testing.assert_allclose(series.exposure_before, np.arange(VIEWS) * (3 if rises else 30))
    assert ("PriorRecordDose rises from piece to piece" in messages(series)) == rises


def test_an_mdoc_in_the_order_of_acquisition_is_matched_by_the_angles_of_views(stack):
    order = np.array([2, 3, 1, 4, 0])
    pieces = coordinates()
    write_pieces(stack, pieces, ("header",))
    listed = np.concatenate([pieces[4 * view : 4 * view + 4] for view in order])
    listed[:, 2] = np.repeat(np.arange(VIEWS), 4)
    Path(f"{stack}.mdoc").write_text(mdoc_text(listed, np.repeat(TILTS[order], 4)))
    series = read_series(stack)
    np.testing.assert_allclose(series.tilt_deg, TILTS)
    assert series.acquired is not None
    np.testing.assert_array_equal(series.acquired, order)


def test_focus_without_pieces_is_told_to_be_without_effect(stack, write_series):
    write_series(stack)
    assert "focus is 1" in messages(read_series(stack, SeriesHints(focus=True)))


def test_the_piece_list_is_part_of_what_a_series_is(stack):
    write_pieces(stack, coordinates(), ("header",))
    before = identity_of(stack).content
    write_piece_list(stack.with_suffix(".pl"), coordinates())
    assert identity_of(stack).content != before


# Files of the acquisition program and of IMOD


def test_a_recorded_mdoc_has_pieces_of_views_and_nothing_of_whole_views(data):
    mdoc = read_mdoc(data / "montage" / "n21.st.mdoc")
    assert mdoc.montage
    assert mdoc.problems == ()
    assert len(mdoc.views) == 42
    np.testing.assert_array_equal([view.piece for view in mdoc.views], read_piece_list(data / "montage" / "n21.pl"))


@pytest.mark.parametrize("name", ["n21", "n22"])
def test_a_piece_list_of_extractpieces_is_written_again_byte_for_byte(name, data, tmp_path):
    path = data / "montage" / f"{name}.pl"
    grid = PieceGrid.of_sections(read_piece_list(path), (256, 256))
    write_piece_list(tmp_path / "again.pl", coordinates_of(grid))
    assert (tmp_path / "again.pl").read_bytes() == path.read_bytes()


@given(st.lists(st.tuples(st.integers(-9999, 999999), st.integers(-9999, 999999), st.integers(0, 9999)), min_size=1))
def test_any_piece_list_is_read_as_it_was_written(rows):
    np.testing.assert_array_equal(parse_piece_list(render_piece_list(rows)), rows)


@given(st.text())
def test_any_text_is_a_piece_list_or_refused(text):
    try:
        found = parse_piece_list(text)
    except TiltflowError:
        return
    assert found.shape[1] == 3


@pytest.mark.parametrize(("name", "run"), GOLDEN_EDGES)
def test_edge_displacements_of_blendmont_are_written_again_byte_for_byte(name, run, data):
    grid = PieceGrid.of_sections(read_piece_list(data / "montage" / f"{name}.pl"), (256, 256))
    path = data / "imod_runs" / run / f"{name}.ecd"
    assert render_edge_displacements(grid, read_edge_displacements(path, grid)) == path.read_text()


def test_displacements_have_the_sign_and_order_by_which_imod_placed_the_pieces_where_they_were(data):
    """Of the recorded run whose placement was measured to be 0.12 px from the truth."""
    grid = PieceGrid.of_sections(read_piece_list(data / "montage" / "n22.pl"), (256, 256))
    truth = np.loadtxt(data / "montage" / "n22.offsets.txt")[:, 2:].reshape(grid.views, grid.pieces, 2)
    edges = read_edge_displacements(data / "imod_runs" / "montage_two_by_two_own_ecd" / "n22.ecd", grid)
    assert np.abs(displacements_of(grid, truth) - edges).max() < 0.35


@pytest.mark.parametrize("missing", [(), (3,), (0, 5)])
def test_edges_of_missing_pieces_have_no_line(missing, tmp_path, rng):
    grid = PieceGrid.of_sections(np.delete(coordinates(3, 2), missing, axis=0), (PIECE, PIECE))
    offsets = rng.normal(0, 3, (grid.views, grid.pieces, 2))
    write_edge_displacements(tmp_path / "B.ecd", grid, offsets)
    there = ~np.isnan(displacements_of(grid, offsets)[..., 0])
    counts = [int(there[:, [edge.axis == axis for edge in grid.edges]].sum()) for axis in (0, 1)]
    lines = (tmp_path / "B.ecd").read_text().splitlines()
    assert [int(word) for word in lines[0].split()] == counts
    assert len(lines) == 1 + sum(counts)
    assert sum(counts) < grid.views * len(grid.edges) or not missing
    np.testing.assert_allclose(read_edge_displacements(tmp_path / "B.ecd", grid), displacements_of(grid, offsets), atol=5.1e-4)


@pytest.mark.parametrize("text", ["", "8 7\n", "10 10\n1 2\n", "a b\n"])
def test_displacements_of_another_montage_are_refused(text, tmp_path):
    (tmp_path / "B.ecd").write_text(text)
    with pytest.raises(FormatError, match=r"B\.ecd: "):
        read_edge_displacements(tmp_path / "B.ecd", PieceGrid.of_sections(coordinates(), (PIECE, PIECE)))
