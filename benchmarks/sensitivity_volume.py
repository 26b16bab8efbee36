"""What each number is worth in the packages around the volume: the table of :mod:`sensitivity` for preprocess, position and reconstruct.

    python benchmarks/sensitivity_volume.py --package position [--constant TEXT ...] [--new] [--factors 0.5 2]
    NUMBA_DISABLE_JIT=1 python benchmarks/sensitivity_volume.py --package kernels.xrays

Without `--constant` the table is written to `docs/sensitivity/PACKAGE.md`.  Numbers inside a compiled kernel are fixed when it is
compiled: those of the x-ray kernels are changed by running them uncompiled.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import sensitivity
from constants import constants_of
from sensitivity import Measure
from tiltflow import geometry
from tiltflow.align.coarse import CoarseParams, align_coarse
from tiltflow.model import LocalAlignment
from tiltflow.parallel import one_thread_for_algebra
from tiltflow.position.specimen_search import PositionParams, PositionResult, position_section
from tiltflow.preprocess.bad_views import ViewParams, find_bad_views
from tiltflow.preprocess.binned_views import read_binned
from tiltflow.preprocess.xrays import RepairedStack, XrayParams, find_xrays
from tiltflow.reconstruct import half_volumes, local_cells
from tiltflow.reconstruct.aligned_stack import StackParams, align_stack
from tiltflow.reconstruct.half_volumes import half_views, shell_correlation
from tiltflow.reconstruct.sirt import SirtParams, reconstruct_sirt
from tiltflow.reconstruct.wbp import ReconstructParams, reconstruct, volume_shape
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import score
from tiltflow.simulate.simulated_series import SimulatedSeries, render_specimen, simulate

DOCS = Path(__file__).resolve().parents[1] / "docs"

SECTIONS: Mapping[str, SimulationParams] = {
    "low dose": SimulationParams(
        seed=42, size=352, thickness_px=100, pitch_deg=-3, z_offset_px=-20, beads=0, crowding=1.5, dose=40
    ),
    "gold": SimulationParams(seed=44, size=320, thickness_px=80, pitch_deg=3, z_offset_px=20, beads=16, dose=100),
}
"""Sections of 80 and 100 pixels, 41 views, for positioning; their tilt angles are 1.5 degrees off."""

TILT_OFF_DEG = 1.5


# --- Preprocessing ----------------------------------------------------------------------------------------------------------


@functools.cache
def hit_pair(regime: str, size: int, dose: float) -> tuple[SimulatedSeries, SimulatedSeries]:
    """Return a series with x-ray hits and the same without; the images differ in the hits alone."""
    base = {"seed": 51, "size": size, "views": 3, "thickness_px": 40.0, "beads": 8, "bead_nm": 4.0, "dose": dose, "regime": regime}
    hits, clean = (simulate(SimulationParams(**base, hot_pixels=n)) for n in (size // 4, 0))
    rng = np.random.default_rng(size)
    # A quarter of the hits spread over neighbouring pixels.
    for view in range(3):
        for y, x in rng.integers(2, size - 2, (size // 16, 2)):
            hits.images[view, y - 1 : y + 1, x : x + 2] += rng.integers(2000, 6000, dtype=np.int16)
    return hits, clean


def xrays(size: int = 160) -> list[Measure]:
    """X-ray hits: those missed, good pixels replaced, and the error of what is left."""
    measures = []
    for regime, dose in (("plastic", 400.0), ("plastic", 40.0), ("cryo", 100.0)):
        hits, clean = hit_pair(regime, size, dose)
        spread = float(np.std(clean.images))
        wrong = np.abs(hits.images.astype(float) - clean.images) > 2 * spread
        found = find_xrays(hits.images, XrayParams())
        replaced = np.zeros(wrong.shape, bool)
        for mask, indices in zip(replaced, found.indices, strict=True):
            mask.reshape(-1)[indices] = True
        stack = RepairedStack(hits.images, found)
        repaired = np.stack([stack[view] for view in range(3)]).astype(float)
        measures += [
            Measure("hit pixels missed, %", 100 * float((wrong & ~replaced).sum() / wrong.sum())),
            Measure("1 + good pixels replaced, per million", 1 + 1e6 * float((replaced & ~wrong).mean())),
            Measure("error of replaced pixels, sd", float(np.sqrt(np.mean((repaired - clean.images)[replaced] ** 2))) / spread),
        ]
    return measures


@functools.cache
def spoilt_series(regime: str) -> tuple[SimulatedSeries, np.ndarray, set[int]]:
    """Return a series, its images with views that are to be excluded or nearly so, and which of them are."""
    s = simulate(
        SimulationParams(seed=52, size=512, views=41, thickness_px=60, beads=6, regime=regime, hot_pixels=0, max_tilt_deg=66)
    )
    images = s.images.astype(np.float32)
    beam = 1 + 0.15 * np.sin(np.arange(41) / 6)
    images *= beam[:, None, None].astype(np.float32)
    images[0] *= 0.02
    images[1] *= 0.15
    images[12] *= 0.25
    images[5] *= 0.55
    images[20, :, :240] *= 0.05
    images[25, :, :105] *= 0.05
    images[30] = images[30].mean()
    images[33] = np.minimum(images[33], np.percentile(images[33], 65))
    images[35] = np.minimum(images[35], np.percentile(images[35], 95))
    return s, images, {0, 1, 12, 20, 30, 33}


def bad_views() -> list[Measure]:
    """Bad views: those kept, and good ones excluded; and how far the level predicted is from the true one."""
    measures = []
    for regime in ("plastic", "cryo"):
        s, images, bad = spoilt_series(regime)
        check = find_bad_views(images, s.nominal_deg, ViewParams())
        found = set(check.reasons)
        good = [view for view in range(len(images)) if view not in bad | {5, 20, 25}]
        ratio = check.statistics.level[good] / check.statistics.expected_level[good]
        measures += [
            Measure("1 + bad views kept", 1 + len(bad - found)),
            Measure("1 + good views excluded", 1 + len(found - bad)),
            Measure("error of the predicted level, %", 100 * float(np.sqrt(np.mean((ratio - 1) ** 2)))),
        ]
    return measures


@functools.cache
def patterned(name: str) -> tuple[SimulatedSeries, np.ndarray, np.ndarray]:
    """Return a series, its images with a fixed pattern of the camera, and the pattern."""
    dose, strength = {"weak": (200.0, 60.0), "strong": (50.0, 300.0)}[name]
    s = simulate(SimulationParams(seed=53, size=192, views=25, thickness_px=40, beads=8, dose=dose, shift_px=5, hot_pixels=0))
    pattern = np.random.default_rng(5).normal(0, strength, s.images.shape[1:])
    return s, (s.images + pattern).astype(np.float32), pattern


def binned() -> list[Measure]:
    """Binned views: the part of a fixed pattern that is left, and the true error of coarse alignment with a strong one."""
    measures = []
    for name in ("weak", "strong"):
        s, images, _ = patterned(name)
        views = np.arange(len(images))
        plain = read_binned(s.images, views, 192, take_out_pattern=False).images
        kept = read_binned(images, views, 192, take_out_pattern=False).images - plain
        left = read_binned(images, views, 192).images - plain
        measures.append(Measure("pattern left", float(left.mean(axis=0).std() / kept.mean(axis=0).std())))
    found = align_coarse(images, s.nominal_deg, s.header_axis_deg, params=CoarseParams())
    measures.append(Measure("coarse error, px", score(s.truth, found.transforms, s.nominal_deg).rms_px))
    return measures


# --- Position ---------------------------------------------------------------------------------------------------------------


@functools.cache
def section_views(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the views of a section, aligned without error and binned by 2, and their tilt angles."""
    s = simulate(SECTIONS[name])
    views = align_stack(s.images, s.truth.transforms(), StackParams(binning=2))
    return np.stack(list(views)), s.truth.true_deg + TILT_OFF_DEG


def position(names: Sequence[str] = tuple(SECTIONS)) -> list[Measure]:
    """Position of the section in small volumes: errors of slopes, centre and thickness, and these over the errors stated."""
    measures = []
    for name in names:
        params = SECTIONS[name]
        views, tilt = section_views(name)
        found = position_section(views, tilt, PositionParams(sample_type=1), binning=2)
        measures += position_measures(found, params)
    return measures


def position_measures(found: PositionResult, params: SimulationParams) -> list[Measure]:
    """Return the absolute errors of a position.  One that is not trusted counts as an error of 3 degrees, 10 px and 25 %."""
    if not found.confident:
        slopes, centre, thickness, ratio = [3.0, 3.0], 10.0, 25.0, 1.0
    else:
        slopes = [abs(found.tilt_offset_deg + TILT_OFF_DEG), abs(found.x_axis_tilt_deg + params.pitch_deg)]
        centre = abs(found.z_shift - params.z_offset_px)
        thickness = 100 * abs(found.thickness / params.thickness_px - 1)
        errors = np.array([*slopes, centre, thickness * params.thickness_px / 100])
        stated = np.array([found.tilt_error_deg, found.pitch_error_deg, found.centre_error, found.thickness_error])
        ratio = float(np.sqrt(np.mean((errors / stated) ** 2)))
    return [
        Measure("slope error, degrees", float(np.mean(slopes))),
        Measure("centre error, px", centre),
        Measure("thickness error, %", thickness, not (found.confident and found.thickness_known)),
        Measure("true errors over stated", ratio),
    ]


# --- Reconstruction ---------------------------------------------------------------------------------------------------------


@functools.cache
def phantom() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return views of a phantom at binning 2, aligned without error; their tilts; and its voxels `(y, z, x)`, top first."""
    params = SimulationParams(
        seed=61, size=256, views=41, thickness_px=60, pitch_deg=0, beads=8, crowding=2, hot_pixels=0, dose=150
    )
    s = simulate(params)
    truth = render_specimen(params, 80).reshape(40, 2, 128, 2, 128, 2).mean(axis=(1, 3, 5))
    return np.stack(list(align_stack(s.images, s.truth.transforms(), StackParams(binning=2)))), s.truth.true_deg, truth


def unexplained(volume: np.ndarray, truth: np.ndarray) -> float:
    """Return the root of the part of the phantom's variance that a volume does not explain, within its middle."""
    middle = (slice(4, -4), slice(12, -12), slice(12, -12))
    a, b = volume.transpose(1, 0, 2)[::-1][middle].ravel(), truth[middle].ravel()
    return float(np.sqrt(1 - np.corrcoef(a, b)[0, 1] ** 2))


VOLUME = {"thickness": 80, "binning": 2, "mode": 2}


def bent(tolerance_px: float | None = None) -> np.ndarray:
    """Return the volume of the phantom's views with local alignments that drift, and z factors, which is made cell by cell."""
    tilt = phantom()[1]
    side = np.array([-80.0, 0.0, 80.0])
    x, y = (each.ravel() for each in np.meshgrid(side, side))
    drift = np.outer(np.sin(x / 40) + np.cos(y / 50), np.linspace(-1.5, 1.5, len(tilt)))
    transforms = np.broadcast_to(np.eye(2, 3), (*drift.shape, 2, 3)).copy()
    transforms[..., 0, 2], transforms[..., 1, 2] = drift, drift[::-1] / 2
    local = LocalAlignment(
        grid=(3, 3),
        centre_px=np.stack([x, y], axis=1),
        transforms=transforms,
        delta_tilt_deg=drift / 8,
        tracks=np.full(9, 10),
    )
    y_per_z = np.tan(np.deg2rad(np.linspace(-2, 2, len(tilt))))
    before = local_cells.TOLERANCE_PX
    if tolerance_px is not None:
        local_cells.TOLERANCE_PX = tolerance_px
    try:
        return made(ReconstructParams(**VOLUME), local=local, y_per_z=y_per_z)
    finally:
        local_cells.TOLERANCE_PX = before


@functools.cache
def bent_exactly() -> np.ndarray:
    """Return the same by cells that are as small as they can be, made before any constant is changed."""
    return bent(1e-3)


def made(params: ReconstructParams, **changes: Any) -> np.ndarray:
    """Return the volume of the phantom's views, `(y, z, x)`."""
    views, tilt, _ = phantom()
    volume = np.empty(volume_shape(views.shape, params), np.float32)
    reconstruct(views, tilt, params, sink=functools.partial(_keep, volume), **changes)
    return volume


def volumes() -> list[Measure]:
    """Volumes of a phantom by each method: the part of its voxels that they do not explain."""
    views, tilt, truth = phantom()
    plain = ReconstructParams(**VOLUME)
    methods = {
        "back-projection": plain,
        "SIRT-like filter": ReconstructParams(**VOLUME, fake_sirt_iterations=20),
        "Hamming": ReconstructParams(**VOLUME, hamming_start=0.1),
    }
    measures = [Measure(f"{name}: unexplained", unexplained(made(params), truth)) for name, params in methods.items()]
    volume = np.empty(volume_shape(views.shape, plain), np.float32)
    reconstruct_sirt(views, tilt, plain, SirtParams(), sink=functools.partial(_keep, volume))
    return [*measures, Measure("SIRT: unexplained", unexplained(volume, truth))]


def cells() -> list[Measure]:
    """Back-projection cell by cell, where local alignments drift, against the smallest cells."""
    exact = bent_exactly()
    return [Measure("cells: rms error, sd", float(np.sqrt(np.mean((bent() - exact) ** 2)) / exact.std()))]


def halves() -> list[Measure]:
    """Half volumes: the frequency at which their shell correlation falls to the threshold."""
    first, second = (made(ReconstructParams(**VOLUME), included=half) for half in half_views(phantom()[1]))
    sizes = {"tile": half_volumes._TILE, "margin": half_volumes._MARGIN, "shells": half_volumes._SHELLS}  # noqa: SLF001 defaults
    frequency = shell_correlation(first, second, **sizes).resolution(half_volumes.THRESHOLD)
    return [Measure("frequency at the threshold", frequency or 0.5)]


def _keep(volume: np.ndarray, y0: int, slab: np.ndarray) -> None:
    volume[y0 : y0 + len(slab)] = slab


def aligned() -> list[Measure]:
    """Aligned views: those of a shifted series against those of the series itself."""
    s = simulate(SimulationParams(seed=62, size=192, views=3, shift_px=0.0, beads=6, hot_pixels=0, dose=2000))
    shift = geometry.transform(np.broadcast_to(np.eye(2), (3, 2, 2)), np.full((3, 2), 40.3))
    back = geometry.transform(np.broadcast_to(np.eye(2), (3, 2, 2)), np.full((3, 2), -40.3))
    once = np.stack(list(align_stack(s.images, shift, StackParams())))
    twice = np.stack(list(align_stack(once, back, StackParams())))
    inside = (slice(None), slice(60, -60), slice(60, -60))
    rms = float(np.sqrt(np.mean((twice - s.images)[inside] ** 2)) / s.images[inside].std())
    steps = float(np.abs(np.diff(once, axis=2)).mean() / np.abs(np.diff(s.images.astype(float), axis=2)).mean())
    return [Measure("there and back: rms change, sd", rms), Measure("steps with the border over those without", steps)]


STRUCTURAL = {
    **dict.fromkeys(
        [
            "preprocess.bad_views._MAD_TO_SD",
            "preprocess.fixed_pattern._MAD_TO_SD",
            "preprocess.fixed_pattern._MEDIAN_ERROR",
            "position.gold_planes._MAD_TO_SD",
            "position.specimen_search._MAD_TO_SD",
            "position.texture_surfaces._MAD_TO_SD",
            "position.section_edges._STEP_WIDTH",
        ],
        "ratios of the normal distribution",
    ),
    "position.specimen_search._SCALE_FACTOR": "a scale that cancels",
    "kernels.xrays.RING_REACH": "the root of another number",
    "reconstruct.radial_filters._FACTORS": "prime numbers",
}
"""Numbers that are no matter of choice: left out."""

EVALUATIONS: Mapping[str, Sequence[Callable[[], list[Measure]]]] = {
    "preprocess.xrays": (xrays,),
    "preprocess.pixel_filling": (xrays,),
    "preprocess.bad_views": (bad_views,),
    "preprocess.binned_views": (binned,),
    "preprocess.fixed_pattern": (binned,),
    "position.specimen_search": (position,),
    "position.texture": (position,),
    "position.texture_surfaces": (position,),
    "position.section_edges": (position,),
    "position.gold_planes": (functools.partial(position, ("gold",)),),
    "position.combination": (functools.partial(position, ("gold",)),),
    "reconstruct.aligned_stack": (aligned,),
    "reconstruct.line_weighting": (volumes,),
    "reconstruct.radial_filters": (volumes,),
    "reconstruct.wbp": (volumes,),
    "reconstruct.sirt": (volumes,),
    "reconstruct.local_cells": (cells,),
    "reconstruct.half_volumes": (halves,),
    "kernels.xrays": (functools.partial(xrays, 96),),
}
"""What to run for the constants of each package or module; see :data:`sensitivity.EVALUATIONS`."""


def page(asked: str, tables: Mapping[str, str]) -> str:
    """Return the page of a package in Markdown."""
    uncompiled = "NUMBA_DISABLE_JIT=1 " if asked.startswith("kernels") else ""
    functions = dict.fromkeys(
        each.func if isinstance(each, functools.partial) else each for name in tables for each in EVALUATIONS[name]
    )
    what = " ".join((each.__doc__ or "").strip() for each in functions)
    return (
        f"# How much the numbers in `{asked}` matter\n\n"
        f"Made by `{uncompiled}python benchmarks/sensitivity_volume.py --package {asked}`; it does not depend on the machine. Each "
        "constant was halved and doubled alone, and the part of the program concerned was run on small simulated series with fixed "
        f"seeds. {what} Measures are means; differences of a few per cent are within what another set of seeds would give.\n\n"
        + "\n".join(tables.values())
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", required=True, help=f"one of {', '.join(EVALUATIONS)}, or the beginning of some")
    parser.add_argument("--constant", action="append", help="only constants whose name contains this text")
    parser.add_argument("--new", action="store_true", help="keep the rows of constants that the page has")
    parser.add_argument("--factors", type=float, nargs="+", default=[0.5, 2.0])
    asked = parser.parse_args()
    packages = [name for name in EVALUATIONS if f"{name}.".startswith(f"{asked.package}.")]
    if not packages:
        parser.error(f"no package {asked.package}: there are {', '.join(EVALUATIONS)}")
    sensitivity.EVALUATIONS = {**sensitivity.EVALUATIONS, **EVALUATIONS}
    output, tables = DOCS / "sensitivity" / f"{asked.package.replace('.', '-')}.md", {}
    with one_thread_for_algebra():
        for package in packages:
            chosen = [
                each
                for each in constants_of(package, STRUCTURAL)
                if not asked.constant or any(text in f"{package}.{each.label}" for text in asked.constant)
            ]
            if chosen:
                known = sensitivity.old_rows(output, package) if asked.new else []
                tables[package] = sensitivity.table_of(package, chosen, asked.factors, known)
    if asked.constant:
        print("\n".join(tables.values()))
    else:
        output.write_text(page(asked.package, tables), encoding="utf-8")


if __name__ == "__main__":
    main()
