"""A volume whose specimen is known, and records of series that went well, badly, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from scipy import ndimage

from tiltflow.record import (
    AlignmentEntry,
    CtfEntry,
    DirectiveEntry,
    EngineEntry,
    ExposureEntry,
    FailureEntry,
    HalvesEntry,
    NumberEntry,
    ProductEntry,
    RecipeEntry,
    RingsEntry,
    SeriesRecord,
    StageEntry,
    ValueEntry,
)
from tiltflow.report.gather import describe_volume
from tiltflow.report.measure import VolumeMeasure, measure_volume
from tiltflow.report.pictures import write_slices, write_view

HOSTILE = '<img src=x onerror="alert(1)">'
VOXEL_NM = 4.0
SPECIMEN = (20, 44)
VIEWS = 21
NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


def make_volume(shape: tuple[int, int, int] = (64, 96, 104), specimen: tuple[int, int] = SPECIMEN, seed: int = 3) -> np.ndarray:
    """Return noise with blobs of a few voxels in the sections of the specimen."""
    rng = np.random.default_rng(seed)
    volume = rng.normal(0, 1, shape)
    blobs = ndimage.gaussian_filter(rng.normal(0, 1, shape), 2.0)
    inside = slice(*specimen)
    volume[inside] += 1.5 * blobs[inside] / blobs.std()
    return volume.astype(np.float32)


@pytest.fixture(scope="session")
def measured() -> VolumeMeasure:
    return measure_volume(make_volume(), VOXEL_NM)


def make_alignment(error_px: float = 0.12, method: str = "gold") -> AlignmentEntry:
    rng = np.random.default_rng(7)
    tilt = np.linspace(-60, 60, VIEWS)
    included = [view != 3 for view in range(VIEWS)]
    return AlignmentEntry(
        method=method,
        tilt_deg=(tilt + 0.4 + rng.normal(0, 0.1, VIEWS)).tolist(),
        included=included,
        shift_px=rng.normal(0, 5, (VIEWS, 2)).tolist(),
        rotation_deg=(-8 + rng.normal(0, 0.03, VIEWS)).tolist(),
        magnification=[1.0] * VIEWS,
        residual_mean_px=2 * error_px,
        residual_mean_nm=2 * error_px,
        leave_out_px=3 * error_px,
        leave_out_nm=3 * error_px,
        error_px=error_px,
        error_nm=error_px,
        residual_per_view_px=[2 * error_px if used else None for used in included],
        residual_vectors_px=[(float(x), float(y), 0.1, -0.1) for x, y in rng.uniform(10, 500, (12, 2))],
        positions_per_view=[12 if used else 0 for used in included],
        positions_lost_per_view=[0 if used else 12 for used in included],
        correlation_per_view=[0.8 if used else None for used in included],
        tracks_used=12,
        tracks_rejected=1,
        axis_angle_nominal_deg=-8.0,
        axis_angle_from_data_deg=-8.03,
        axis_angle_error_deg=0.1,
        excluded_views={4: "it is dark"},
    )


def make_record(name: str = "TS_01", error_px: float = 0.12, method: str = "gold") -> SeriesRecord:
    """Return the record of a series that has its result, without a volume."""
    record = SeriesRecord(
        name=name,
        source=f"/data/{name}.mrc",
        status="success",
        tiltflow="0.1.0",
        versions={"python": "3.11", "numpy": "2.1"},
        started=NOW,
        finished=NOW,
        engine=EngineEntry(name="native", version="tiltflow 0.1.0", reason="it was requested"),
        recipe=RecipeEntry(
            template="plastic_brt",
            digest="0123456789abcdef" * 4,
            requested="0123456789abcdef" * 4,
            parameters={"gold": 10},
            directives=[DirectiveEntry(name="setupset.copyarg.gold", value="10", status="used", reason="bead size")],
            stages={
                "gold_nm": 10.0,
                "stack": {"binning": 4},
                "reconstruct": {"radial_cutoff": 0.35, "radial_falloff": 0.05, "fake_sirt_iterations": 0},
                "sirt": None,
            },
        ),
        alignment=make_alignment(error_px, method),
    )
    record.input = {
        "views": ValueEntry(value=VIEWS, source="header of the stack"),
        "width": ValueEntry(value=512, unit="px", source="header of the stack"),
        "height": ValueEntry(value=512, unit="px", source="header of the stack"),
        "pixel_size": ValueEntry(value=10.0, unit="angstrom", source="header of the stack"),
        "tilt_angles": ValueEntry(value=np.linspace(-60, 60, VIEWS).tolist(), unit="deg", source="extended header"),
    }
    for stage, seconds in (("read", 0.1), ("align: gold", 4.0), ("reconstruction", 2.5), ("gen_zarr", 1.0)):
        numbers = {"views": NumberEntry(value=VIEWS), "axis_angle": NumberEntry(value=None, unit="deg")}
        record.stages.append(StageEntry(name=stage, status="done", started=NOW, seconds=seconds, numbers=numbers))
    return record


@pytest.fixture
def record() -> SeriesRecord:
    return make_record()


def make_halves() -> HalvesEntry:
    """Return two halves that agree to 8 nm."""
    frequency = np.linspace(0.004, 0.124, 31)
    return HalvesEntry(
        views_even=10,
        views_odd=10,
        frequency_per_nm=frequency.tolist(),
        correlation=(1 / (1 + (frequency / 0.08) ** 8)).tolist(),
        resolution_0143_nm=9.9,
        resolution_0500_nm=12.5,
    )


def add_files(record: SeriesRecord, folder: Path, measured: VolumeMeasure) -> SeriesRecord:
    """Put the pictures and a movie of a series into its folder, and what they are into its record."""
    folder.mkdir(parents=True, exist_ok=True)
    record.volume = describe_volume(measured, VOXEL_NM)
    record.pictures = [write_view(folder, measured.xy, VOXEL_NM, 0.0), *write_slices(folder, measured, VOXEL_NM)]
    movie = write_movie(folder / "keyMov_TS.mp4")
    record.products.append(ProductEntry(type="recMovie", path=movie.name, bytes=movie.stat().st_size))
    record.products.append(ProductEntry(type="keyImage", path=record.pictures[0].path, bytes=1, sha256="0" * 64))
    return record


def save(record: SeriesRecord, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.json"
    path.write_text(record.model_dump_json(by_alias=True))
    return path


def make_failed(name: str = "TS_99", reason: str = "the file ends in view 7 of 41") -> SeriesRecord:
    record = make_record(name)
    record.status, record.message = "error", reason
    record.alignment, record.volume, record.products = None, None, []
    record.failure = FailureEntry(stage="read", reason=reason, error="FormatError", last_lines=["line 1", "line 2"])
    record.warnings = ["read: angles disagree"]
    return record


def write_movie(path: Path, frames: int = 30, side: int = 64) -> Path:
    """Write a small movie as the products have them."""
    rng = np.random.default_rng(5)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (side, side)).astype(np.uint8), "gray")
            out.mux(stream.encode(frame.reformat(format="yuv420p")))
        out.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """What makes records, volumes and files for them."""
    return SimpleNamespace(
        volume=make_volume,
        alignment=make_alignment,
        record=make_record,
        halves=make_halves,
        failed=make_failed,
        files=add_files,
        movie=write_movie,
        save=save,
        specimen=SPECIMEN,
        voxel_nm=VOXEL_NM,
        hostile=HOSTILE,
    )


def make_ctf() -> CtfEntry:
    """Return a CTF that was estimated and corrected."""
    frequency = np.linspace(0.25, 1.0, 40)
    rings = np.sin(2.5 * np.pi * frequency**2 * 4) * 0.3
    return CtfEntry(
        applied=True,
        reason="mean defocus 4000 ± 8 nm (single views ± 17 nm), rings seen to a spacing of 15 Å",
        voltage_kv=300.0,
        cs_mm=2.7,
        amplitude_contrast=0.07,
        defocus_nm=np.linspace(3950, 4050, VIEWS).tolist(),
        error_nm=[17.0] * VIEWS,
        mean_error_nm=8.0,
        hand=1,
        hand_measured=1,
        hand_certainty=0.999,
        gradient=0.95,
        gradient_error=0.05,
        score=[0.8] * VIEWS,
        spacing_angstrom=[15.0] * VIEWS,
        rings=[
            RingsEntry(view=view, frequency_per_nm=frequency.tolist(), measured=(rings + 0.05).tolist(), fitted=rings.tolist())
            for view in (1, VIEWS // 2, VIEWS)
        ],
    )


def make_exposure() -> ExposureEntry:
    """Return exposures whose order is known."""
    return ExposureEntry(
        applied=True,
        reason="TS_01.mdoc (ExposureDose)",
        each=[3.0] * VIEWS,
        before=[3.0 * view for view in range(VIEWS)],
        order=list(range(1, VIEWS + 1)),
    )
