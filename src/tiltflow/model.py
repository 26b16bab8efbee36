"""The types that flow between the floors: series, alignments and volumes.  Those of the work on them are in :mod:`tiltflow.work`.

All are frozen.  Arrays are `(view, y, x)` and `(z, y, x)`; the first row of an image is its bottom, as in the MRC format,
so x points right and y up.  Lengths are pixels of the raw images unless a name ends in a unit.  Angles are degrees,
counter-clockwise positive.  What axes and signs mean is stated once, in :mod:`tiltflow.geometry`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow.errors import ParameterError
from tiltflow.piece_grid import PieceGrid

Image = NDArray[np.float32]
"""One view or section, `(y, x)`."""

LEAST_VIEWS = 3
"""Fewest views of a tomogram: of two no method gives an alignment, since any shifts and tilts of them place every feature somewhere."""

Progress = Callable[[float], None]
"""Receives the fraction done, 0 to 1."""


class Stack(Protocol):
    """Images that are read one at a time: a memory-mapped file, an array, or a repaired view of either."""

    @property
    def shape(self) -> tuple[int, ...]:
        """`(views, ny, nx)`."""

    def __getitem__(self, view: int, /) -> NDArray[Any]:
        """Return one image, `(ny, nx)`, of any real type."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something unusual in the input, to be reported to the user."""

    message: str
    where: str


ASSUMED = "assumed"
"""Begins the source of a value that no source gives."""


@dataclass(frozen=True, slots=True, eq=False)
class Acquisition:
    """Metadata that an acquisition program wrote into a file; None for values that it does not give.

    Attributes
    ----------
    kind
        Which program wrote it; empty where that is not known, and then the rest is None.
    tilt_deg
        Tilt of each view, `(views,)`.
    pixel_size_angstrom
        Pixel size.
    axis_angle_deg
        Tilt axis from vertical, counter-clockwise positive.
    exposure
        Electrons per square ångström of each view, `(views,)`.
    piece_coordinates
        x, y, z of each section: the corner of the piece that it is, pixels, and the number of its view, `(sections, 3)`.
    """

    kind: str
    tilt_deg: NDArray[np.float64] | None = None
    pixel_size_angstrom: float | None = None
    axis_angle_deg: float | None = None
    exposure: NDArray[np.float64] | None = None
    piece_coordinates: NDArray[np.int64] | None = None


class ImageStack(Stack, Protocol):
    """The views of a tilt series in a file of any format, read one at a time and from several threads.

    In every format, the first row of a view is its bottom.  All but the images stays available after the file is closed.
     :func:`tiltflow.formats.stacks.open_stack` opens one.
    """

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def container(self) -> str:
        """The format in words, and the program that wrote it where that is known: `MRC`, `TIFF (ImageJ)`."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(views, ny, nx)`."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the images that reading returns, in the byte order of this machine."""

    @property
    def header_name(self) -> str:
        """Name of the place of pixel size and labels in messages: `header`, `TIFF header`."""

    @property
    def pixel_size_angstrom(self) -> tuple[float, float] | None:
        """Size of a pixel along x and y; None where the file gives none."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Title lines."""

    @property
    def acquisition(self) -> Acquisition | None:
        """Metadata of the acquisition program; None where there are none."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is unusual about the file although it can be read."""

    def close(self) -> None:
        """Close the file; images that were read stay valid."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class TiltSeries:
    """A tilt series, with the source of each value.

    Attributes
    ----------
    path
        The stack of images; of arrays, a name.
    shape
        `(views, ny, nx)`; of a montage, that of the frame which its pieces become.
    tilt_deg
        Nominal tilt of each view, `(views,)`, in file order.
    pixel_size_angstrom
        Size of a raw pixel.
    axis_angle_deg
        In-plane angle of the tilt axis from vertical (y), counter-clockwise positive: IMOD's rotation angle.  0 where nothing tells
        it (:attr:`axis_is_told`).
    exposure
        Electrons per square ångström of each view, `(views,)`, if known.
    exposure_before
        What the specimen had received before each view, `(views,)`, electrons per square ångström, if known.
    acquired
        The views in the order in which they were taken, counted from 0, `(views,)`, if known.
    voltage_kv, target_defocus_nm
        Accelerating voltage, and the defocus that was aimed at, underfocus positive, if known.
    included
        Views that take part in alignment and reconstruction, `(views,)`.
    provenance
        Source of each field, in a sentence.
    problems
        Disagreements and oddities.
    doubts
        Field to what nobody knows of it and what that may do to the result, a sentence.
    container
        Format of the stack in words, as :class:`ImageStack` has it.
    images
        The views, `(view, y, x)`, if they are in memory; None if they are to be read from `path`.
    frame_stacks
        Stacks of the even and of the odd frames of each view, of the same shape; None where there are none.
    montage
        The pieces that the sections of the stack are, where every view is made of several; None for an ordinary series.
    """

    path: Path
    shape: tuple[int, int, int]
    tilt_deg: NDArray[np.float64]
    pixel_size_angstrom: float
    axis_angle_deg: float
    included: NDArray[np.bool_]
    exposure: NDArray[np.float64] | None = None
    exposure_before: NDArray[np.float64] | None = None
    acquired: NDArray[np.int64] | None = None
    voltage_kv: float | None = None
    target_defocus_nm: float | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    doubts: Mapping[str, str] = field(default_factory=dict)
    container: str = "MRC"
    images: Stack | None = None
    frame_stacks: tuple[Path, Path] | None = None
    montage: PieceGrid | None = None

    @classmethod
    def from_images(
        cls,
        images: Stack,
        tilt_deg: ArrayLike,
        *,
        pixel_size_angstrom: float,
        axis_angle_deg: float | None = None,
        name: str = "series",
    ) -> TiltSeries:
        """Return a series of views `(view, y, x)` that come from elsewhere; without an angle of the tilt axis, 0 is assumed.

        Raises
        ------
        ParameterError
            If there is not one tilt for each view.
        """
        tilts = np.asarray(tilt_deg, np.float64)
        if tilts.shape != (images.shape[0],):
            raise ParameterError(f"{tilts.size} tilt angles for {images.shape[0]} views; give one for each")
        views, ny, nx = images.shape
        return cls(
            path=Path(name),
            shape=(views, ny, nx),
            tilt_deg=tilts,
            pixel_size_angstrom=float(pixel_size_angstrom),
            axis_angle_deg=float(axis_angle_deg or 0.0),
            included=np.ones(views, bool),
            provenance={
                **dict.fromkeys(("tilt_deg", "pixel_size_angstrom"), "given by the caller"),
                "axis_angle_deg": f"{ASSUMED}: 0 degrees" if axis_angle_deg is None else "given by the caller",
            },
            images=images,
        )

    @property
    def name(self) -> str:
        """The base name, which names every file made from it."""
        return self.path.stem

    @property
    def axis_is_told(self) -> bool:
        """Whether a source gives the angle of the tilt axis, so that it can be disagreed with."""
        return not self.provenance.get("axis_angle_deg", "").startswith(ASSUMED)


@dataclass(frozen=True, slots=True, eq=False)
class AlignedViews:
    """Views on the common frame whose tilt axis runs along y through the centre.

    Attributes
    ----------
    images
        `(view, y, x)`.
    binning
        Raw pixels to one of these, along a side.
    pixel_size_angstrom
        Size of a binned pixel; None where it is not known.
    """

    images: Stack
    binning: int = 1
    pixel_size_angstrom: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """Positions of features over the views.

    Attributes
    ----------
    xy
        `(track, view, 2)` raw pixels, origin at the corner of pixel 0; NaN where unseen.
    weight
        A-priori weights, to a common factor: `(track,)`, `(track, view)`, the inverse covariance of each position
        `(track, view, 2, 2)`, or that of all positions of a track together `(track, view, 2, view, 2)`; None for equal ones.
    kind
        `bead` or `patch`.
    crowding
        Number of tracks divided by the number of independent ones: above 1 for patches that overlap.
    size_px
        `(track, 2)` width and height over which a position is a mean, raw pixels; None for points.
    """

    xy: NDArray[np.float64]
    kind: str
    weight: NDArray[np.float64] | None = None
    crowding: float = 1.0
    size_px: NDArray[np.float64] | None = None

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Where a track has a position, `(track, view)`."""
        return ~np.isnan(self.xy[..., 0])

    def without(self, tracks: NDArray[np.bool_]) -> Tracks:
        """Return all tracks but some, `(track,)`."""
        weight = self.weight if self.weight is None else self.weight[~tracks]
        size = self.size_px if self.size_px is None else self.size_px[~tracks]
        return Tracks(self.xy[~tracks], self.kind, weight, self.crowding, size)


@dataclass(frozen=True, slots=True)
class Evidence:
    """How good an alignment is, in numbers.  None where a method does not give the number.

    Residuals and errors are pixels of the raw images.  Residuals are over the positions that carry weight in the fit, `positions_used`;
    `positions_rejected` were measured and carry none, and `positions_expected` beads should be seen (of gold alone).  `leave_out_px` is
    the mean distance of points from the prediction of a fit without them; unlike the residual it does not fall when a fit with too many
    variables follows the noise.
    `error_px` is the estimated error of the alignment itself; `trust_warnings` are the reasons not to trust it, none for a sound one.
    `excluded_views` maps views, counted from 0, to the reason.  `rejected` maps reasons to the number of tracks rejected
    before the solution; `tracks_rejected` counts those that the solution rejected.  `axis_angle_error_deg` is the standard
    error of the angle from the data, and `x_axis_tilt_error_deg` that of the x-axis tilt that levels the specimen, None where it is not
    known and 0 is taken.  `positions_per_view` counts the tracks that each view was fitted
    with, `positions_lost_per_view` those that are missing or were rejected there.  `residual_vectors_px` holds x, y of each track
    on the view nearest to zero tilt, raw pixels from its corner, and the residual there, dx and dy.  Where local
    areas are used all of these are with them, and `global_residual_mean_px` and `global_leave_out_px` without.
    """

    residual_mean_px: float | None = None
    residual_sd_px: float | None = None
    residual_weighted_mean_px: float | None = None
    leave_out_px: float | None = None
    global_residual_mean_px: float | None = None
    global_leave_out_px: float | None = None
    residual_per_view_px: tuple[float, ...] | None = None
    residual_vectors_px: tuple[tuple[float, float, float, float], ...] | None = None
    positions_used: int | None = None
    positions_rejected: int | None = None
    positions_expected: int | None = None
    positions_per_view: tuple[int, ...] | None = None
    positions_lost_per_view: tuple[int, ...] | None = None
    measurements: int | None = None
    unknowns: int | None = None
    tracks_used: int | None = None
    tracks_rejected: int | None = None
    shift_rms_px: float | None = None
    shift_max_px: float | None = None
    axis_angle_nominal_deg: float | None = None
    axis_angle_from_data_deg: float | None = None
    axis_angle_error_deg: float | None = None
    x_axis_tilt_error_deg: float | None = None
    correlation_per_view: tuple[float, ...] | None = None
    error_px: float | None = None
    trust_warnings: tuple[str, ...] = ()
    excluded_views: Mapping[int, str] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    attempts: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class LocalAlignment:
    """Corrections of the global alignment for areas of the specimen.

    Attributes
    ----------
    centre_px
        `(areas, 2)` centre of each area, x and y from the centre of the aligned image, at zero tilt.
    grid
        Areas along x and y: area `[j, i]` of the grid is number `j * grid[0] + i`.
    transforms
        `(areas, views, 2, 3)`: globally aligned to locally aligned coordinates, both from the image centre.
    delta_tilt_deg
        `(areas, views)` to add to the tilt of each view.
    tracks
        `(areas,)` number of tracks in each.
    """

    centre_px: NDArray[np.float64]
    grid: tuple[int, int]
    transforms: NDArray[np.float64]
    delta_tilt_deg: NDArray[np.float64]
    tracks: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PieceShifts:
    """Where tracks see the pieces of a montage, against where these were stitched.

    Attributes
    ----------
    found_px
        `(views, pieces, 2)` by how much each piece lies off in the stitched view, x and y, raw pixels, as the tracks have it; the sum
        over the pieces of a view is 0.  0 for missing pieces, and in views without tracks.
    sd_px
        `(views, pieces)` standard error of a coordinate of what is left: of the shifts where they are used, else of the stitching.
    used
        Whether the shifts are used: the alignment then holds for pieces placed by offsets from which they are subtracted.
    doubted
        `(views, pieces)` pieces that lie further off than their edges allow, or on which no track is seen that belongs there.
    leave_out_px
        The leave-out error without the shifts and with them, of the same positions.
    error_px
        The part of the alignment's estimated error that is due to the placement of the pieces.
    notes
        What was found, in words; `warnings` names the pieces that are doubted.
    """

    found_px: NDArray[np.float64]
    sd_px: NDArray[np.float64]
    used: bool
    doubted: NDArray[np.bool_]
    leave_out_px: tuple[float, float]
    error_px: float
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def shift_px(self) -> NDArray[np.float64]:
        """What to subtract from the offsets of the pieces, `(views, pieces, 2)`: the shifts found, or 0 if they are not used."""
        return self.found_px if self.used else np.zeros_like(self.found_px)


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """The alignment of a tilt series: the place of each raw view.

    Attributes
    ----------
    transforms
        `(views, 2, 3)`: raw to aligned coordinates about the image centres, unbinned pixels: the six numbers of a line of `.xf`.
    tilt_deg
        Refined tilt of each view, `(views,)`.
    included
        Views that take part, `(views,)`; the others still have a line in every file.
    method
        `coarse`, `gold`, `patches` or `projection`; `given` for one that another program made.
    x_axis_tilt_deg
        Tilt about x that levels the specimen in the reconstruction, minus its pitch: IMOD's XAXISTILT.
    z_shift
        Shift of the reconstruction along z, unbinned pixels.
    thickness
        Of the volume, unbinned pixels, if positioning sets it; None for the requested one.
    local
        Corrections by area, where they were solved.
    y_per_z
        `(views,)` displacement along y in the aligned view per unit of z, where the specimen skews (IMOD's second z factor; the
        first is included in the tilts).
    tracks, track_weights
        The positions that it was computed from, and the weight of each in the solution, `(track, view)`, 0 for those not used; None for
        methods without tracks.
    pieces
        Where the tracks see the pieces of a montage; None for views taken in one piece, and for methods without tracks.
    """

    transforms: NDArray[np.float64]
    tilt_deg: NDArray[np.float64]
    included: NDArray[np.bool_]
    method: str
    x_axis_tilt_deg: float = 0.0
    z_shift: float = 0.0
    thickness: int | None = None
    evidence: Evidence = field(default_factory=Evidence)
    local: LocalAlignment | None = None
    y_per_z: NDArray[np.float64] | None = None
    tracks: Tracks | None = None
    track_weights: NDArray[np.float64] | None = None
    pieces: PieceShifts | None = None

    def __repr__(self) -> str:
        told = (("estimated error", self.evidence.error_px), ("leave-out error", self.evidence.leave_out_px))
        errors = "".join(f", {name} {value:.2f} px" for name, value in told if value is not None)
        warnings = len(self.evidence.trust_warnings)
        return (
            f"<Alignment by {self.method}: {int(self.included.sum())} of {len(self.included)} views{errors}"
            f"{f', {warnings} trust warning' + 's' * (warnings > 1) if warnings else ''}>"
        )


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """The files that an engine makes; `alignment` is None where it gives none."""

    aligned: Path
    volume: Path
    transforms: Path
    tilts: Path
    alignment: Alignment | None = None
