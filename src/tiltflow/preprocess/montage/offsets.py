"""Where the pieces of a montage truly lie, found in their overlaps; how well; and what was wrong.

blendmont of IMOD answers the same question view by view, and ends within half a pixel (:doc:`/explanation/montage`).  Here displacements
of edges come with standard errors (:mod:`.match`), and all views are solved together (:mod:`.solution`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import ParameterError
from tiltflow.model import Image, Progress, Stack
from tiltflow.observer import tell
from tiltflow.parallel import map_threads
from tiltflow.piece_grid import ABSENT, PieceGrid
from tiltflow.preprocess.montage.blank_pieces import blank_pieces, levels_of
from tiltflow.preprocess.montage.gray_levels import GrayLevels, Ratios, ratios_of, solve_gray_levels
from tiltflow.preprocess.montage.linear_parts import LinearParts, estimate_linear_parts
from tiltflow.preprocess.montage.match import Match, match
from tiltflow.preprocess.montage.overlaps import Overlap, overlaps_of, strip_of
from tiltflow.preprocess.montage.params import MontageParams
from tiltflow.preprocess.montage.remarks import remarks
from tiltflow.preprocess.montage.search import binned, evidence_of, look_up, shared_places
from tiltflow.preprocess.montage.solution import DOUBTED, Solution, solve

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_ASTRAY_SD = 3.0
"""Standard deviations of the search, and a pixel, beyond which a match has run to something else."""
_SURE = 0.6
"""Part of the usual correlation from which a match is as clear as others."""


@dataclass(frozen=True, slots=True, eq=False)
class EdgeEvidence:
    """What is known of each edge of each view, in the order of the grid's edges; NaN where nothing was measured.

    Attributes
    ----------
    displacement_px
        `(views, edges, 2)`: what is to be added to the written distance of its pieces, as measured.
    error_px
        `(views, edges)`: its standard error, the mean of both axes.
    correlation
        `(views, edges)` of the matched gray levels.
    loop_error_px
        `(views, edges)`: distance of the displacement from that of the solution.
    doubted
        `(views, edges)`: measured, and contradicted by the others.
    """

    displacement_px: Floats
    error_px: Floats
    correlation: Floats
    loop_error_px: Floats
    doubted: Flags


@dataclass(frozen=True, slots=True, eq=False)
class PieceOffsets:
    """Where pieces lie.

    Attributes
    ----------
    offset_px
        `(views, pieces, 2)`: what is to be added to the corner of a piece; mean 0 over the pieces of a view.
    error_px
        `(views, pieces, 2)`: standard errors along x and y, about the mean of the pieces of a view that are seen.
    covariance
        `(views, 2, pieces, pieces)`, along x and along y, square pixels.
    rotation_deg, magnification
        `(views, pieces)`: of the piece against the frame, counter-clockwise, and as a fraction beyond 1; 0 where none is seen.
    gray
        What gray levels are divided by.
    edges
        Evidence for each edge.
    taken, blank
        `(views, pieces)`: which were taken, and which of these show nothing; these do not vote.
    expected_only
        `(views, pieces)`: which lie where the other views expect them, for want of an edge.
    deviation_px
        Standard deviation of what a view adds to what all views share.
    warnings
        What is unusual, in sentences.
    """

    offset_px: Floats
    error_px: Floats
    covariance: Floats
    rotation_deg: Floats
    magnification: Floats
    gray: GrayLevels
    edges: EdgeEvidence
    taken: Flags
    blank: Flags
    expected_only: Flags
    deviation_px: float
    warnings: tuple[str, ...] = ()

    @property
    def linear(self) -> Floats:
        """`(views, pieces, 2, 2)`: from the frame to the piece, about the centre of the piece."""
        scale, angle = 1 + self.magnification, np.deg2rad(self.rotation_deg)
        c, s = scale * np.cos(angle), scale * np.sin(angle)
        return np.stack([np.stack([c, -s], axis=-1), np.stack([s, c], axis=-1)], axis=-2)

    @property
    def view_error_px(self) -> Floats:
        """`(views,)`: root mean square of the standard errors of the pieces of a view that show anything, both axes together."""
        seen = self.taken & ~self.blank
        squares = np.where(seen, (self.error_px**2).sum(axis=2), 0.0)
        return np.asarray(np.sqrt(squares.sum(axis=1) / np.maximum(seen.sum(axis=1), 1)))

    def with_offsets(self, offset_px: ArrayLike, error_px: ArrayLike) -> PieceOffsets:
        """Return the same pieces at offsets that something else has found, `(views, pieces, 2)`, with their standard errors."""
        offset = np.asarray(offset_px, float)
        return replace(self, offset_px=offset - offset.mean(axis=1, keepdims=True), error_px=np.asarray(error_px, float))


def measure_offsets(
    pieces: Stack,
    grid: PieceGrid,
    tilt_deg: ArrayLike,
    params: MontageParams,
    *,
    axis_deg: float | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> PieceOffsets:
    """Return where the pieces of all views lie.

    Pieces are read three times, one view at a time; of each view only small binned strips are kept.

    Parameters
    ----------
    pieces
        Sections `(sections, ny, nx)`.
    grid
        Which section is which piece.
    tilt_deg
        `(views,)`.
    params
        What is to be done.
    axis_deg
        Angle of the tilt axis from y, degrees, which heights of pieces follow from; None where it is unknown.
    threads
        Views at the same time.
    progress
        Called with the fraction done.

    Raises
    ------
    ParameterError
        If there is not one tilt for each view, or pieces are not of the size of the grid's.
    """
    tilts = np.asarray(tilt_deg, float)
    if tilts.shape != (grid.views,):
        raise ParameterError(f"{tilts.size} tilts for a montage of {grid.views} views: there must be one for each view")
    if tuple(pieces.shape[1:]) != tuple(grid.piece_shape):
        raise ParameterError(
            f"pieces of {pieces.shape[2]} x {pieces.shape[1]} pixels where the grid has pieces of "
            f"{grid.piece_shape[1]} x {grid.piece_shape[0]}"
        )
    return _Measurement(pieces, grid, tilts, params, axis_deg, threads, progress).result()


@dataclass(frozen=True, slots=True, eq=False)
class _Start:
    """What the search tells of edges, `(views, edges, 2)`: the place, and what correlation says of it as a mean and a variance.

    `faint` are the edges that it tells nothing of, in any view.
    """

    place: Floats
    mean: Floats
    variance: Floats
    faint: list[int]

    @classmethod
    def nothing(cls, views: int, edges: int, faint: list[int]) -> _Start:
        shape = (views, edges, 2)
        return cls(np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.inf), faint)


@dataclass(frozen=True, slots=True, eq=False)
class _Measurement:
    pieces: Stack
    grid: PieceGrid
    tilts: Floats
    params: MontageParams
    axis_deg: float | None
    threads: int
    progress: Progress | None

    def result(self) -> PieceOffsets:
        overlaps = overlaps_of(self.grid, self.params)
        blank, strips = self._first_look(overlaps)
        start = self._search(overlaps, strips, blank)
        matches = self._matches(overlaps, start.place)
        parts, displacement, variance = self._without_rotation(overlaps, matches)
        sure = _sure(matches)
        faint = self._faint(displacement, variance, start)
        displacement, variance = (
            np.where(faint[..., None], start.mean, displacement),
            np.where(faint[..., None], start.variance, variance),
        )
        solution = solve(self.grid, displacement, variance, sure | faint, self._slope)
        gray = self._gray(overlaps, solution, blank)
        return self._told(matches, parts, displacement, variance, solution, gray, blank, start.faint)

    @property
    def _slope(self) -> Floats:
        return np.sin(np.deg2rad(self.tilts))

    @property
    def _height(self) -> Floats | None:
        """Height of the centres of pieces above the tilt axis, pixels."""
        if self.axis_deg is None:
            return None
        axis = np.deg2rad(self.axis_deg)
        away = (self.grid.corner_px - self.grid.corner_px.mean(axis=0)) @ np.array([np.cos(axis), np.sin(axis)])
        return np.asarray(np.tan(np.deg2rad(np.clip(self.tilts, -85, 85)))[:, None] * away)

    def _images(self, view: int, which: list[int]) -> dict[int, NDArray[np.generic]]:
        return {k: self.pieces[int(self.grid.section[view, k])] for k in which if self.grid.section[view, k] != ABSENT}

    def _strips(self, overlaps: list[Overlap], view: int, wanted: list[int]) -> Iterator[tuple[int, Image, Image]]:
        """Yield the number and the two strips of the wanted edges of a view, as far as both pieces were taken."""
        needed = sorted({k for number in wanted for k in overlaps[number].edge[:2]})
        images = self._images(view, needed)
        for number in wanted:
            edge = overlaps[number].edge
            if edge.lower in images and edge.upper in images:
                low, high = overlaps[number].strips()
                yield number, strip_of(images[edge.lower], low), strip_of(images[edge.upper], high)

    def _first_look(self, overlaps: list[Overlap]) -> tuple[Flags, dict[tuple[int, int], tuple[Image, Image]]]:
        """Return which pieces are blank, and the binned strips by view and edge."""
        levels = np.full((self.grid.views, self.grid.pieces, 2), np.nan)

        def look(view: int) -> dict[tuple[int, int], tuple[Image, Image]]:
            images = self._images(view, list(range(self.grid.pieces)))
            for piece, image in images.items():
                levels[view, piece] = levels_of(image)
            found = {}
            for number, overlap in enumerate(overlaps):
                edge = overlap.edge
                if edge.lower in images and edge.upper in images:
                    parts = zip((images[edge.lower], images[edge.upper]), overlap.strips(), strict=True)
                    low, high = (binned(strip_of(image, part), overlap.binning) for image, part in parts)
                    found[view, number] = low, high
            return found

        strips: dict[tuple[int, int], tuple[Image, Image]] = {}
        for view, found in enumerate(map_threads(look, range(self.grid.views), self.threads)):
            strips |= found
            tell(self.progress, 0.3 * (view + 1) / self.grid.views)
        return blank_pieces(levels[..., 0], levels[..., 1]), strips

    def _search(self, overlaps: list[Overlap], strips: dict[tuple[int, int], tuple[Image, Image]], blank: Flags) -> _Start:
        """Return where edges lie to a pixel; nothing where a piece is missing or blank."""
        views, maps = [], []
        for number, overlap in enumerate(overlaps):
            pair = [overlap.edge.lower, overlap.edge.upper]
            have = [v for v in range(self.grid.views) if (v, number) in strips and not blank[v, pair].any()]
            low, high = ([strips[v, number][side] for v in have] for side in (0, 1))
            views.append(have)
            maps.append(evidence_of(overlap, np.stack(low), np.stack(high)) if have else None)
        place, faint = shared_places(overlaps, maps, views, self._slope, self.grid.pieces)
        start = _Start.nothing(self.grid.views, len(overlaps), faint)
        for number, (overlap, have, of_edge) in enumerate(zip(overlaps, views, maps, strict=True)):
            if of_edge is not None and number not in faint:
                expected = place[have, overlap.edge.upper] - place[have, overlap.edge.lower]
                found = look_up(overlap, of_edge, expected, self._slope[have])
                start.place[have, number], start.mean[have, number] = found.place_px, found.mean_px
                start.variance[have, number] = found.variance
        return start

    def _matches(self, overlaps: list[Overlap], start: Floats) -> list[list[Match | None]]:
        """Return the matches of all edges of all views, from where they are to be looked for, `(views, edges, 2)`."""

        def look(view: int) -> list[Match | None]:
            found: list[Match | None] = [None] * len(overlaps)
            wanted = [int(number) for number in np.flatnonzero(np.isfinite(start[view]).all(axis=1))]
            for number, low, high in self._strips(overlaps, view, wanted):
                found[number] = match(overlaps[number], low, high, start[view, number])
            return found

        all_ = []
        for view, found in enumerate(map_threads(look, range(self.grid.views), self.threads)):
            all_.append(found)
            tell(self.progress, 0.3 + 0.5 * (view + 1) / self.grid.views)
        return all_

    def _without_rotation(self, overlaps: list[Overlap], matches: list[list[Match | None]]) -> tuple[LinearParts, Floats, Floats]:
        """Return rotation and magnification of pieces, and displacements of edges without them, `(views, edges, 2)`, with variances."""
        shape = (self.grid.views, len(overlaps), 2)
        displacement, variance, difference, spread = (np.full(shape, np.nan) for _ in range(4))
        for v, of_view in enumerate(matches):
            for e, found in enumerate(of_view):
                if found is not None:
                    displacement[v, e], variance[v, e] = found.displacement_px, found.variance
                    difference[v, e], spread[v, e] = found.linear, found.linear_variance
        parts = estimate_linear_parts(self.grid, difference, spread, self._height, focus=self.params.focus)
        both = np.stack([parts.magnification, parts.rotation], axis=2)
        for v, of_view in enumerate(matches):
            for e, found in enumerate(of_view):
                if found is not None and both[v].any():
                    low, high = (_small(both[v, k]) for k in overlaps[e].edge[:2])
                    displacement[v, e] += (
                        found.coupling @ (both[v, overlaps[e].edge.upper] - both[v, overlaps[e].edge.lower])
                        - high @ (overlaps[e].written + displacement[v, e])
                        + (high - low) @ found.middle
                    )
        return parts, displacement, variance

    @staticmethod
    def _faint(displacement: Floats, variance: Floats, start: _Start) -> Flags:
        """Return the edges that the search tells more about than the match, `(views, edges)`: whose match ran away, or is no better."""
        told = np.isfinite(start.variance).all(axis=2)
        away = np.abs(displacement - start.mean) > _ASTRAY_SD * np.sqrt(start.variance) + 1
        worse = ~(variance.sum(axis=2) < start.variance.sum(axis=2))
        return np.asarray(told & (away.any(axis=2) | worse | ~np.isfinite(displacement).all(axis=2)))

    def _gray(self, overlaps: list[Overlap], solution: Solution, blank: Flags) -> GrayLevels:
        """Return gains and shading; none where they are not asked for, or pieces are not counts of light."""
        even = GrayLevels.even(self.grid.views, self.grid.pieces)
        if not self.params.gray:
            return even

        def look(view: int) -> list[Ratios]:
            wanted = [n for n, o in enumerate(overlaps) if not blank[view, [o.edge.lower, o.edge.upper]].any()]
            of_view = self._strips(overlaps, view, wanted)
            found = (ratios_of(overlaps[n], low, high, solution.predicted_px[view, n]) for n, low, high in of_view)
            return [each for each in found if each is not None]

        ratios = []
        for view, of_view in enumerate(map_threads(look, range(self.grid.views), self.threads)):
            ratios.append(of_view)
            tell(self.progress, 0.8 + 0.2 * (view + 1) / self.grid.views)
        return solve_gray_levels(ratios, self.grid.pieces) if any(ratios) else even

    def _told(
        self,
        matches: list[list[Match | None]],
        parts: LinearParts,
        displacement: Floats,
        variance: Floats,
        solution: Solution,
        gray: GrayLevels,
        blank: Flags,
        faint: list[int],
    ) -> PieceOffsets:
        have = np.isfinite(displacement).all(axis=2)
        doubted = have & (solution.weight < DOUBTED)
        voted = np.zeros(blank.shape, bool)
        for number, edge in enumerate(self.grid.edges):
            for piece in edge[:2]:
                voted[:, piece] |= solution.weight[:, number] >= DOUBTED
        correlation = np.array([[np.nan if m is None else m.correlation for m in of_view] for of_view in matches], float)
        edges = EdgeEvidence(
            displacement_px=displacement,
            error_px=np.sqrt(solution.inflation * np.where(have, variance.mean(axis=2), np.nan)),
            correlation=correlation.reshape(have.shape),
            loop_error_px=np.linalg.norm(displacement - solution.predicted_px, axis=2),
            doubted=doubted,
        )
        covariance = about_those_seen(solution.covariance, self.grid.taken & ~blank)
        error = np.moveaxis(np.sqrt(np.maximum(np.einsum("vakk->vak", covariance), 0)), 1, 2)
        expected_only = ~voted & (self.grid.pieces > 1)
        told = remarks(
            self.grid,
            blank=blank,
            expected_only=expected_only,
            doubted=doubted,
            misplaced_px=edges.loop_error_px,
            away_px=solution.away_px,
            deviation_px=solution.deviation_px,
            error_px=np.linalg.norm(error, axis=2),
            correlation=edges.correlation,
            faint=faint,
        )
        return PieceOffsets(
            offset_px=solution.offset_px,
            error_px=error,
            covariance=covariance,
            rotation_deg=np.rad2deg(parts.rotation),
            magnification=parts.magnification,
            gray=gray,
            edges=edges,
            taken=self.grid.taken,
            blank=blank,
            expected_only=expected_only,
            deviation_px=solution.deviation_px,
            warnings=told,
        )


def about_those_seen(covariance: Floats, seen: Flags) -> Floats:
    """Return the covariance of offsets, `(views, 2, pieces, pieces)`, about the mean of the pieces that are seen, `(views, pieces)`.

    An alignment takes up the mean of what a view shows; a piece that is missing says nothing of the places of the others.
    """
    share = np.where(seen.any(axis=1, keepdims=True), seen, True).astype(float)
    share /= share.sum(axis=1, keepdims=True)
    centre = np.eye(seen.shape[1]) - share[:, None, :]
    return np.asarray(np.einsum("vij,vajk,vlk->vail", centre, covariance, centre))


def _sure(matches: list[list[Match | None]]) -> Flags:
    """Return which matches are as clear as others of the series, `(views, edges)`."""
    correlation = np.array([[np.nan if m is None else m.correlation for m in of_view] for of_view in matches], float)
    usual = np.nanmedian(correlation) if np.isfinite(correlation).any() else 1.0
    return np.asarray(np.nan_to_num(correlation, nan=-1.0) > _SURE * usual)


def _small(part: Floats) -> Floats:
    """Return the change of a vector by a magnification and a rotation, `(2, 2)`."""
    m, r = part
    return np.array([[m, -r], [r, m]])
