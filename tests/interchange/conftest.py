"""Results of a series whose geometry is known, written as the pipeline writes them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiltflow import describe, geometry
from tiltflow.engines.native.alignment_files import write_alignment_files
from tiltflow.formats.mrc import MrcWriter
from tiltflow.model import Alignment, Evidence, TiltSeries, Tracks
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import AlignmentEntry, EngineEntry, NumberEntry, SeriesRecord, StageEntry, VolumeEntry

NAME = "TS_01"
PIXEL_ANGSTROM = 8.0
AXIS_DEG = -8.0
ORDER = (0, 3, -3, 6, -6, 9, -9, 12, -12)
"""Tilts of a dose-symmetric series, in the order of acquisition, in tens of a third of a degree."""


def rot_x(deg: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(deg)), np.sin(np.deg2rad(deg))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def rot_y(deg: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(deg)), np.sin(np.deg2rad(deg))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def rot_z(deg: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(deg)), np.sin(np.deg2rad(deg))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@dataclass(frozen=True)
class Known:
    """A folder of results, and the geometry that it was written from."""

    folder: Path
    series: TiltSeries
    alignment: Alignment
    full_shape: tuple[int, int, int]
    volume_shape: tuple[int, int, int]
    first_kept: tuple[int, int, int]
    binning: int
    x_axis_tilt_deg: float
    offset_deg: float
    shift: tuple[float, float]
    points: np.ndarray = field(repr=False)

    rot_x = staticmethod(rot_x)
    rot_y = staticmethod(rot_y)
    rot_z = staticmethod(rot_z)
    name = NAME

    @property
    def kept(self) -> np.ndarray:
        """Views that are not left out, counted from 0, by increasing nominal tilt."""
        kept = np.flatnonzero(self.alignment.included)
        return kept[np.argsort(self.series.tilt_deg[kept])]

    @property
    def left_out(self) -> list[int]:
        """Views that are left out, counted from 1."""
        return (np.flatnonzero(~self.alignment.included) + 1).tolist()

    def change_record(self, **values: Any) -> None:
        """Set entries of the record."""
        path = self.folder / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    def centred(self, voxels: np.ndarray) -> np.ndarray:
        """Voxels of the volume from its centre, raw pixels."""
        return (voxels + 0.5 - np.array(self.volume_shape[::-1]) / 2) * self.binning

    def centred_before_trimming(self, voxels: np.ndarray) -> np.ndarray:
        """The same voxels from the centre of the volume that tilt makes, which is trimmed afterwards."""
        return (voxels + self.first_kept + 0.5 - np.array(self.full_shape[::-1]) / 2) * self.binning

    @property
    def seen(self) -> np.ndarray:
        """Where IMOD sees :attr:`points`, voxels counted from 0, in the raw views: `(views, points, 2)`, the first pixel at 0.

        Written from what was measured of IMOD's tilt: the point is shifted, then turned about x, then about y.
        """
        shifted = self.centred_before_trimming(self.points) + np.array([-self.shift[0], 0, self.shift[1]])
        size = np.array(self.series.shape[:0:-1])
        views = []
        for xf, tilt in zip(self.alignment.transforms, self.alignment.tilt_deg, strict=True):
            aligned = (rot_y(tilt + self.offset_deg) @ rot_x(-self.x_axis_tilt_deg) @ shifted.T)[:2].T
            views.append((np.linalg.inv(xf[:, :2]) @ (aligned - xf[:, 2]).T).T + (size - 1) / 2)
        return np.array(views)


def write_results(
    parent: Path,
    *,
    image_shape: tuple[int, int] = (60, 81),
    magnification: float = 1.0,
    by_tilt: bool = False,
    left_out: tuple[int, ...] = (1, 6),
    overrides: tuple[str, ...] = (),
    x_axis_tilt_deg: float = -1.7,
    z_shift: float = 4.5,
    tracks: bool = True,
    volume: bool = True,
    mdoc: bool = True,
    binning: int = 1,
    trimmed: tuple[tuple[int, int, int], tuple[int, int, int]] | None = None,
) -> Known:
    """Write a series and its results; `left_out` counts from 0, `trimmed` is the shape kept (z, y, x) and its first voxel (x, y, z)."""
    rng = np.random.default_rng(5)
    nominal = np.array(sorted(ORDER) if by_tilt else ORDER, float) / 0.3
    views = len(nominal)
    source = parent / "raw" / f"{NAME}.mrc"
    source.parent.mkdir()
    with MrcWriter(source, (views, *image_shape), np.int16, pixel_size_angstrom=PIXEL_ANGSTROM, is_stack=True) as out:
        for _ in range(views):
            out.write(rng.normal(100, 10, image_shape).astype(np.float32))
    if mdoc:
        source.with_suffix(".mrc.mdoc").write_text(_mdoc(nominal, image_shape))
    included = np.ones(views, bool)
    included[list(left_out)] = False
    series = TiltSeries(
        path=source,
        shape=(views, *image_shape),
        tilt_deg=nominal,
        pixel_size_angstrom=PIXEL_ANGSTROM,
        axis_angle_deg=AXIS_DEG,
        included=np.ones(views, bool),
        exposure=np.full(views, 3.0),
    )
    axis = AXIS_DEG + rng.normal(0, 0.4, views)
    transforms = geometry.from_axis_and_shifts(axis, rng.normal(0, 5, (views, 2)))
    transforms[..., :2] *= magnification
    xy = rng.uniform(5, 55, (6, views, 2))
    xy[2, 3] = np.nan
    alignment = Alignment(
        transforms=transforms,
        tilt_deg=np.round(nominal + 0.4 + rng.normal(0, 0.1, views), 3),
        included=included,
        method="gold",
        x_axis_tilt_deg=x_axis_tilt_deg,
        z_shift=z_shift,
        evidence=Evidence(
            residual_mean_px=0.25, residual_sd_px=0.1, excluded_views=dict.fromkeys(left_out, "is dark"), error_px=0.05
        ),
        tracks=Tracks(xy, "bead") if tracks else None,
        track_weights=np.where(np.isnan(xy[..., 0]), 0.0, rng.integers(0, 5, xy.shape[:2])) if tracks else None,
    )
    recipe = make_recipe(
        BrtParameters(thickness=40, gold=10),
        overrides=[f"runtime.AlignedStack.any.binByFactor={binning}", *overrides],
        engine="native",
    )
    params, folder = recipe.reconstruct, parent / "out" / NAME
    folder.mkdir(parents=True)
    write_alignment_files(folder, series, alignment)
    full_shape = 40 // binning, image_shape[0] // binning, image_shape[1] // binning
    shape, first_kept = trimmed or (full_shape, (0, 0, 0))
    grey = rng.normal(0, 40, shape).astype(np.int16)
    if volume:
        with MrcWriter(folder / f"{NAME}_rec.mrc", shape, np.int16, pixel_size_angstrom=PIXEL_ANGSTROM * binning) as out:
            for section in grey:
                out.write(section)
    record = SeriesRecord(
        name=NAME,
        source=str(source),
        status="success",
        tiltflow="0.2.0",
        started=datetime.now(UTC),
        engine=EngineEntry(name="native", version="0", reason="it was requested"),
        input=describe.series(series),
        recipe=describe.recipe(recipe, requested=recipe),
        alignment=AlignmentEntry.model_validate(describe.alignment(alignment, series)),
        stages=[
            StageEntry(
                name="reconstruction",
                status="done",
                started=datetime.now(UTC),
                seconds=1.0,
                numbers={"thickness": NumberEntry(value=40, unit="px"), "scale_factor": NumberEntry(value=0.2)},
            )
        ],
        volume=_volume_entry(shape, binning),
    )
    (folder / "run.json").write_text(record.model_dump_json(by_alias=True))
    return Known(
        folder=folder,
        series=series,
        alignment=alignment,
        full_shape=full_shape,
        volume_shape=shape,
        first_kept=first_kept,
        binning=binning,
        x_axis_tilt_deg=x_axis_tilt_deg + params.x_axis_tilt_deg,
        offset_deg=params.offset_deg,
        shift=(params.shift_x, params.shift_z + z_shift),
        points=rng.uniform(0, 1, (25, 3)) * (np.array(shape[::-1]) - 1),
    )


def _mdoc(nominal: np.ndarray, image_shape: tuple[int, int]) -> str:
    """An `.mdoc` whose times are those of a dose-symmetric acquisition, also where the stack is in the order of the tilts."""
    lines = [f"PixelSpacing = {PIXEL_ANGSTROM}", f"ImageSize = {image_shape[1]} {image_shape[0]}", ""]
    for view, tilt in enumerate(nominal):
        minute = int(np.argmin(np.abs(np.array(ORDER) / 0.3 - tilt)))
        lines += [
            f"[ZValue = {view}]",
            f"TiltAngle = {tilt:.3f}",
            "ExposureDose = 3.0",
            f"DateTime = 09-Jan-26  23:{minute:02d}:00",
            "",
        ]
    return "\n".join(lines)


def _volume_entry(shape: tuple[int, int, int], binning: int) -> VolumeEntry:
    filled: dict[str, Any] = dict.fromkeys(("mean", "sd", "histogram_low", "histogram_high", "window_low", "window_high"), 0.0)
    lists: dict[str, Any] = {"histogram_counts": [], "spectrum_per_nm": [], "spectrum_power": [], "texture_z_nm": [], "texture": []}
    nz, ny, nx = shape
    return VolumeEntry(sections=nz, height_px=ny, width_px=nx, voxel_nm=PIXEL_ANGSTROM * binning / 10, **filled, **lists)


@pytest.fixture
def results(tmp_path: Path) -> Known:
    """Two views of nine left out, the stack in the order of acquisition, the specimen levelled and shifted."""
    return write_results(tmp_path)


@pytest.fixture
def write_known(tmp_path: Path):
    """Writes results with a geometry of one's own."""

    def write(**options: Any) -> Known:
        return write_results(tmp_path, **options)

    return write
