"""The layout of a montage: any order of sections, gaps, missing pieces, and the frame that blendmont makes."""

import numpy as np
import pytest

from tiltflow.errors import FormatError
from tiltflow.piece_grid import ABSENT, PieceGrid, padded_size


def _coordinates(columns: int, rows: int, views: int, step: int) -> np.ndarray:
    """Piece coordinates as SerialEM writes them: a view after the other, in a view column by column."""
    return np.array([(x * step, y * step, z) for z in range(views) for x in range(columns) for y in range(rows)])


def test_a_grid_of_two_by_three() -> None:
    grid = PieceGrid.of_sections(_coordinates(2, 3, 4, 224), (256, 256))
    assert (grid.views, grid.pieces, grid.columns, grid.rows, grid.sections) == (4, 6, 2, 3, 24)
    assert grid.overlap_px == (32, 32)
    assert grid.nominal_shape == (704, 480)
    # The second section is the piece above the first: number 2 of the grid, in which x runs fastest.
    assert grid.section[0].tolist() == [0, 3, 1, 4, 2, 5]
    assert grid.first_section.tolist() == [0, 6, 12, 18]
    assert grid.view_of_section.tolist() == [0] * 6 + [1] * 6 + [2] * 6 + [3] * 6


def test_edges_are_in_blendmonts_order() -> None:
    grid = PieceGrid.of_sections(_coordinates(2, 2, 1, 224), (256, 256))
    assert grid.edges == ((0, 1, 0), (2, 3, 0), (0, 2, 1), (1, 3, 1))


def test_the_order_of_sections_is_free() -> None:
    coordinates = _coordinates(3, 2, 5, 100)
    order = np.random.default_rng(2).permutation(len(coordinates))
    mixed, sorted_grid = (PieceGrid.of_sections(c, (128, 128)) for c in (coordinates[order], coordinates))
    np.testing.assert_array_equal(order[mixed.section], sorted_grid.section)


def test_gaps_in_z_are_closed_and_a_corner_that_is_not_zero_is_moved_there() -> None:
    coordinates = _coordinates(2, 1, 3, 200)
    coordinates[:, 2] *= 2
    grid = PieceGrid.of_sections(coordinates + np.array((50, -7, 3)), (256, 256))
    assert grid.views == 3
    assert grid.corner_px.tolist() == [[0, 0], [200, 0]]


def test_a_missing_piece_leaves_its_place() -> None:
    grid = PieceGrid.of_sections(np.delete(_coordinates(2, 2, 2, 224), 5, axis=0), (256, 256))
    assert grid.section[1].tolist() == [4, 5, ABSENT, 6]
    assert grid.sections == 7


@pytest.mark.parametrize(("size", "padded"), [(474, 476), (480, 480), (256, 256), (1946, 1950), (475, 476), (2 * 23, 48), (2, 2)])
def test_the_frame_is_blendmonts(size: int, padded: int) -> None:
    assert padded_size(size) == padded


def test_padding_lies_on_both_sides() -> None:
    grid = PieceGrid.of_sections(_coordinates(2, 2, 1, 224), (250, 250))
    assert grid.nominal_shape == (474, 474)
    assert grid.frame_shape == (476, 476)
    assert grid.margin_px == (1, 1)


@pytest.mark.parametrize(
    ("coordinates", "words"),
    [
        ([(0, 0, 0), (25, 101, 0), (224, 0, 0)], "no regular grid"),
        ([(0, 0, 0), (0, 0, 0)], "sections 0 and 1 both"),
        ([(0, 0, 0), (300, 0, 0)], "do not overlap"),
        ([], "no piece"),
    ],
)
def test_what_is_no_montage_is_refused_in_words(coordinates: list[tuple[int, int, int]], words: str) -> None:
    with pytest.raises(FormatError, match=words):
        PieceGrid.of_sections(coordinates, (256, 256))
