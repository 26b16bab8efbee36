"""The geometry of a series from the folder of its results: `run.json`, `B.xf`, `B.tlt`, `B.xtilt` and `B_fid.txt`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiltflow import geometry
from tiltflow.errors import FormatError, LocationError, ParameterError, StageError, UnsupportedError
from tiltflow.formats.acquisition import exposure_before_each_view
from tiltflow.formats.tilts import read_tilts
from tiltflow.formats.transforms import read_transforms
from tiltflow.interchange.command_files import TiltCommand, read_tilt_command
from tiltflow.interchange.contrast import KnownDefocus, known_defocus, known_voltage
from tiltflow.interchange.track_file import read_tracks
from tiltflow.model import Tracks
from tiltflow.recipe.engine_rules import rules_of
from tiltflow.reconstruct.aligned_stack import StackParams, aligned_shape
from tiltflow.reconstruct.trim import Trim, TrimParams
from tiltflow.reconstruct.wbp import ReconstructParams, volume_shape
from tiltflow.record import AlignmentEntry, SeriesRecord, read_record
from tiltflow.record.sentences import stage_number

RECORD_NAME = "run.json"
_SAME_TILT_DEG = 0.0101
"""`B.tlt` has two decimals and the record three."""

_WORTH_SAYING_PX = 0.05

Floats = NDArray[np.float64]
_Params = TypeVar("_Params")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SeriesGeometry:
    """Where each view of a series lies and what its tomogram shows.  Lengths are pixels of the raw images, angles degrees.

    Attributes
    ----------
    name, folder, stack
        Base name, the folder of the results, and the stack of raw images.
    pixel_size_angstrom
        Size of a raw pixel.
    image_shape
        `(ny, nx)` of a raw view.
    transforms
        `(views, 2, 3)`, as :mod:`tiltflow.geometry` has them; the tilt axis goes through the centre of the aligned image.
    tilt_deg
        `(views,)` refined tilts, all offsets included.
    pitch_deg
        `(views,)` pitch about x.
    included
        `(views,)`: views that are part of the tomogram.
    nominal_tilt_deg, nominal_axis_deg
        As the microscope gave them.
    binning
        Raw pixels to a voxel.
    volume_shape
        `(nz, ny, nx)` of the tomogram, in voxels.
    volume_centre
        `(3,)`: where the centre of the tomogram lies in the levelled specimen, x, y, z; not 0 where it was shifted or trimmed.
    full_shape
        `(nz, ny, nx)` of the volume before it was trimmed, in voxels.
    shift_xz
        Shift of that volume along x and z, with the signs of IMOD's SHIFT.
    exposure, exposure_before
        `(views,)` electrons per square ångström of each view, and of all views taken before it; None where not known.
    exposure_assumed
        Whether the order of the views, by which `exposure_before` was summed, is only assumed.
    voltage_kv
        Of the microscope; None where not known.
    defocus
        Contrast transfer of the views; None where not known.
    gold_nm
        Diameter of the gold, 0 for none.
    tracks, used
        Positions of the tracks, and `(track, view)` which of them the alignment used; None without tracks.
    reconstruct
        Parameters of the reconstruction.
    by_sirt
        Whether the volume was made by SIRT.
    scale_factor
        Factor of the grey values (SCALE); None where not known.
    alignment
        The entry of the record.
    remarks
        What is not known or cannot be handed on.
    """

    name: str
    folder: Path
    stack: Path
    pixel_size_angstrom: float
    image_shape: tuple[int, int]
    transforms: Floats
    tilt_deg: Floats
    pitch_deg: Floats
    included: NDArray[np.bool_]
    nominal_tilt_deg: Floats
    nominal_axis_deg: float
    binning: int
    volume_shape: tuple[int, int, int]
    volume_centre: Floats
    full_shape: tuple[int, int, int]
    shift_xz: tuple[float, float]
    alignment: AlignmentEntry
    reconstruct: ReconstructParams
    exposure: Floats | None = None
    exposure_before: Floats | None = None
    exposure_assumed: bool = False
    voltage_kv: float | None = None
    defocus: KnownDefocus | None = None
    gold_nm: float = 0.0
    tracks: Tracks | None = None
    used: NDArray[np.bool_] | None = None
    by_sirt: bool = False
    scale_factor: float | None = None
    remarks: tuple[str, ...] = ()

    @property
    def views(self) -> int:
        """Number of views in the stack."""
        return len(self.tilt_deg)

    @property
    def kept(self) -> NDArray[np.int64]:
        """Views of the tomogram, counted from 0, by increasing nominal tilt."""
        kept = np.flatnonzero(self.included)
        return kept[np.argsort(self.nominal_tilt_deg[kept], kind="stable")]

    @property
    def unbinned_volume_shape(self) -> tuple[int, int, int]:
        """`(nz, ny, nx)` of the tomogram in raw pixels."""
        nz, ny, nx = (n * self.binning for n in self.volume_shape)
        return nz, ny, nx

    def project(self, points: ArrayLike) -> Floats:
        """Return where points `(points, 3)` of the tomogram, x, y, z from its centre, are seen in the raw views.

        `(views, points, 2)`, from the corner of pixel 0.
        """
        specimen = np.atleast_2d(np.asarray(points, float)) + self.volume_centre
        aligned = np.einsum("vij,pj->vpi", geometry.projections(self.tilt_deg, self.pitch_deg), specimen)
        raw = geometry.apply(geometry.invert(self.transforms)[:, None], aligned)
        return raw + np.array(self.image_shape[::-1]) / 2

    def centred_transforms(self) -> Floats:
        """Return transforms `(views, 2, 3)` to which the centre of the tomogram is the centre of the specimen.

        For programs that know no shift of the volume: their volume about its own centre is ours.
        """
        centre = geometry.projections(self.tilt_deg, self.pitch_deg) @ self.volume_centre
        return geometry.transform(self.transforms[..., :2], self.transforms[..., 2] - centre)

    def rigid_transforms(self) -> Floats:
        """Return :meth:`centred_transforms` without magnification and stretch, for programs that take an angle and a shift."""
        return geometry.rigid(self.centred_transforms())

    def rigid_error_px(self) -> float:
        """Return by how much, at most, :meth:`rigid_transforms` displace a corner of the raw image in a view that is kept."""
        ny, nx = self.image_shape
        corners = np.array([[x, y] for x in (-nx / 2, nx / 2) for y in (-ny / 2, ny / 2)])
        exact, rigid = (
            geometry.apply(xf[self.included][:, None], corners) for xf in (self.centred_transforms(), self.rigid_transforms())
        )
        return float(np.linalg.norm(exact - rigid, axis=-1).max())

    @property
    def one_pitch_deg(self) -> float | None:
        """The pitch, where it is the same in all views that are kept; else None."""
        kept = self.pitch_deg[self.included]
        return float(kept[0]) if np.ptp(kept) == 0 else None


def read_geometry(folder: Path, record: SeriesRecord | None = None) -> SeriesGeometry:
    """Return the geometry of the series whose results are in `folder`.

    Parameters
    ----------
    record
        The record of the series; None to read it from the folder, where it has to be that of a success.

    Raises
    ------
    LocationError
        If the record or a file of the alignment is not there.
    FormatError
        If one of them cannot be read, or does not fit the others.
    StageError
        If the series has no result.
    UnsupportedError
        If its raw stack holds pieces of views.
    """
    if record is None:
        record = _finished_record(folder)
    if "montage" in record.input:
        raise UnsupportedError(f"{record.name} is a montage: its raw stack holds pieces, which other programs would take for views")
    found = record.alignment
    if found is None or record.recipe is None:
        raise StageError(f"{record.name}: the record in {folder} holds no alignment; process the series again, then export it")
    views = len(found.tilt_deg)
    transforms = _lines(folder / f"{record.name}.xf", read_transforms, views)
    written = _lines(folder / f"{record.name}.tlt", read_tilts, views)
    tilts = np.array(found.tilt_deg, float)
    if np.abs(written - tilts).max() > _SAME_TILT_DEG:
        view = int(np.abs(written - tilts).argmax())
        raise FormatError(
            f"{folder / record.name}.tlt does not belong to the record beside it: view {view + 1} is at {written[view]:g} degrees, in "
            f"the record at {tilts[view]:g}; process the series again (--redo)"
        )
    made = _Made.read(folder, record, views)
    params, raw_shape = made.params, made.raw_shape
    axis_offset = np.array([params.axis_offset, 0.0])
    exposure, before = _exposure(record, views)
    tracks = read_tracks(folder / f"{record.name}_fid.txt", views)
    included = np.array(found.included, bool)
    included[[view for view in params.exclude_views if 0 <= view < views]] = False
    if not included.any():
        raise StageError(f"{record.name}: no view takes part in the tomogram, so that there is nothing to export")
    return SeriesGeometry(
        name=record.name,
        folder=folder,
        stack=Path(record.source),
        pixel_size_angstrom=float(_value(record, "pixel_size")),
        image_shape=raw_shape[1:],
        transforms=geometry.transform(transforms[..., :2], transforms[..., 2] - axis_offset),
        tilt_deg=tilts + params.offset_deg,
        pitch_deg=made.pitch_deg,
        included=included,
        nominal_tilt_deg=np.array(_value(record, "tilt_angles"), float),
        nominal_axis_deg=float(_value(record, "axis_angle")),
        binning=params.binning,
        volume_shape=made.shape,
        volume_centre=made.centre,
        full_shape=made.full_shape,
        shift_xz=(params.shift_x, params.shift_z),
        alignment=found,
        reconstruct=params,
        exposure=exposure,
        exposure_before=before,
        exposure_assumed=record.exposure is not None and record.exposure.order_assumed,
        voltage_kv=known_voltage(record),
        defocus=known_defocus(record.ctf, transforms, np.array(found.included, bool), tilts + params.offset_deg),
        gold_nm=float(record.recipe.stages.get("gold_nm") or 0.0),
        tracks=None if tracks is None else tracks[0],
        used=None if tracks is None else tracks[1],
        by_sirt=record.recipe.stages.get("sirt") is not None,
        scale_factor=stage_number(record, "reconstruction", "scale_factor"),
        remarks=tuple(made.remarks + _not_handed_on(found, folder, record.name, made.full_shape[0] * params.binning)),
    )


@dataclass(slots=True, eq=False)
class _Made:
    """How the volume was made: what the recipe, the record and, of an engine that hands on, its command file say."""

    params: ReconstructParams
    raw_shape: tuple[int, int, int]
    pitch_deg: Floats
    shape: tuple[int, int, int]
    centre: Floats
    full_shape: tuple[int, int, int]
    remarks: list[str]

    @classmethod
    def read(cls, folder: Path, record: SeriesRecord, views: int) -> _Made:
        recipe, found = record.recipe, record.alignment
        if recipe is None or found is None:
            raise StageError(f"{record.name}: the record holds no recipe or no alignment; process the series again")
        remarks: list[str] = []
        stack = _params(StackParams, recipe.stages.get("stack"))
        params = replace(_params(ReconstructParams, recipe.stages.get("reconstruct")), binning=stack.binning)
        params = replace(
            params,
            x_axis_tilt_deg=params.x_axis_tilt_deg + found.x_axis_tilt_deg,
            shift_z=params.shift_z + found.z_shift_px,
            thickness=int(stage_number(record, "reconstruction", "thickness") or params.thickness),
        )
        pitch = np.full(views, geometry.to_xtilt_file(params.x_axis_tilt_deg))
        if _hands_on(record):
            command = read_tilt_command(folder / "tilt.com")
            if command is None:
                remarks.append(
                    "the other program's tilt.com is not in the folder, so that an X-axis tilt, a tilt offset or a shift that its "
                    "positioning chose is not known here: process with --keep-imod to export them"
                )
            params = _as_commanded(params, command)
            pitch = _pitch_of_files(folder / f"{record.name}.xtilt", params.x_axis_tilt_deg, views)
        raw_shape = views, int(_value(record, "height")), int(_value(record, "width"))
        made = cls(params, raw_shape, pitch, (0, 0, 0), np.array([-params.shift_x, 0.0, params.shift_z]), (0, 0, 0), remarks)
        made._place(record, stack, _params(TrimParams, recipe.stages.get("trim")))
        return made

    def _place(self, record: SeriesRecord, stack: StackParams, trimming: TrimParams) -> None:
        """Find the size of the volume, and its centre after trimming."""
        full = volume_shape(aligned_shape(self.raw_shape, stack), self.params)
        trim = Trim(full, trimming)
        (s0, s1), (r0, r1), (c0, c1) = trim.slices, trim.rows, trim.columns
        ny, nz, nx = full
        self.full_shape = nz, ny, nx
        self.shape = r1 - r0, s1 - s0, c1 - c0
        if trim.reorient != 2:
            self.remarks.append(
                f"the volume was written with reorient {trim.reorient}; what is exported holds for one that is turned about x "
                "(reorient 2)"
            )
        seen = record.volume
        if seen is not None and trim.reorient and (seen.sections, seen.height_px, seen.width_px) != self.shape:
            self.remarks.append(
                f"the volume is {seen.width_px} x {seen.height_px} x {seen.sections} voxels, where the recipe makes "
                f"{self.shape[2]} x {self.shape[1]} x {self.shape[0]}: it is taken to be centred"
            )
            self.shape = self.full_shape = seen.sections, seen.height_px, seen.width_px
            return
        trimmed = np.array([(c0 + c1 - nx) / 2, (s0 + s1 - ny) / 2, (nz - r0 - r1) / 2])
        self.centre = self.centre + trimmed * self.params.binning


def _finished_record(folder: Path) -> SeriesRecord:
    try:
        record = read_record(folder / RECORD_NAME)
    except OSError as error:
        raise LocationError(
            f"{folder / RECORD_NAME} cannot be read ({error.strerror}): give the results of `tiltflow run`, or the folder of one series"
        ) from error
    if record.status != "success":
        why = f" at stage {record.failure.stage}: {record.failure.reason}" if record.failure else ""
        raise StageError(f"{record.name}: the work ended without a result ({record.status}{why}); process it again, then export it")
    return record


def _hands_on(record: SeriesRecord) -> bool:
    """Return whether another program made the volume by its own command files."""
    try:
        return record.engine is not None and bool(rules_of(record.engine.name).hands_on_to)
    except ParameterError:  # an engine that is not installed here
        return False


def _as_commanded(params: ReconstructParams, command: TiltCommand | None) -> ReconstructParams:
    if command is None:
        return params
    return replace(
        params,
        x_axis_tilt_deg=command.x_axis_tilt_deg,
        offset_deg=command.offset_deg,
        axis_offset=command.axis_offset,
        shift_x=command.shift_x,
        shift_z=command.shift_z,
        thickness=command.thickness or params.thickness,
    )


def _pitch_of_files(path: Path, x_axis_tilt_deg: float, views: int) -> Floats:
    values = _lines(path, read_tilts, views) if path.is_file() else np.zeros(views)
    return geometry.to_xtilt_file(geometry.from_xtilt_file(values, x_axis_tilt_deg))


def _lines(path: Path, read: Any, views: int) -> Floats:
    if not path.is_file():
        raise LocationError(f"{path} does not exist, without which nothing can be exported: process the series again (--redo)")
    values = np.asarray(read(path), float)
    if len(values) != views:
        raise FormatError(f"{path} has {len(values)} lines for {views} views of the record: process the series again (--redo)")
    return values


def _params(kind: type[_Params], given: Any) -> _Params:
    """Return parameters from a record, which may be older and know others."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(given, dict):
        raise FormatError(f"the record holds no parameters of {kind.__name__}: process the series again with this version (--redo)")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items() if name in known})


def _value(record: SeriesRecord, name: str) -> Any:
    entry = record.input.get(name)
    if entry is None and name != "exposure":
        raise FormatError(
            f"{record.name}: the record does not give the {name.replace('_', ' ')}: process the series again (--redo)"
        )
    return None if entry is None else entry.value


def _exposure(record: SeriesRecord, views: int) -> tuple[Floats | None, Floats | None]:
    """Return the exposure of each view, and before it: those that frequencies were weighted by, or else as they were read."""
    believed = record.exposure
    if believed is not None and len(believed.each) == len(believed.before) == views:
        return np.array(believed.each, float), np.array(believed.before, float)
    exposure = _value(record, "exposure")
    return None if exposure is None else np.array(exposure, float), _exposure_before(record)


def _exposure_before(record: SeriesRecord) -> Floats | None:
    """Return the exposure before each view: as read when the series was processed, or for older records from the `.mdoc`."""
    if (entry := record.input.get("exposure_before")) is not None:
        return np.array(entry.value, float)
    return exposure_before_each_view(Path(record.source), np.array(_value(record, "tilt_angles"), float))


def _not_handed_on(found: AlignmentEntry, folder: Path, name: str, thickness: int) -> list[str]:
    """Return what an alignment has that no target takes; `thickness` of the volume is in raw pixels."""
    told = []
    if found.local_areas or (folder / f"{name}_local.json").is_file():
        told.append("the local alignments are not exported: the files hold the global one")
    skew = max(map(abs, found.y_per_z), default=0.0) * thickness / 2 if found.y_per_z else 0.0
    if skew > _WORTH_SAYING_PX:
        told.append(f"z factors are not exported: top and bottom of the volume are up to {skew:.1f} px elsewhere along y")
    return told
