"""The objects of the pipeline as entries of the record: every number with its unit, every input value with its source."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable
from dataclasses import asdict, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from tiltflow.checksum import sha256_of
from tiltflow.disk import size_bytes
from tiltflow.formats.directives import Directive
from tiltflow.geometry import axis_angles
from tiltflow.model import Alignment, TiltSeries
from tiltflow.piece_grid import PieceGrid
from tiltflow.recipe import Recipe, StageParams
from tiltflow.recipe.engine_rules import rules_of
from tiltflow.record import (
    DirectiveEntry,
    FileEntry,
    GivenAlignmentEntry,
    GivenDirective,
    ProductEntry,
    RecipeEntry,
    RequestEntry,
    ValueEntry,
)
from tiltflow.version import build
from tiltflow.work import Asset

_COORDINATES = "piece coordinates"
_LIBRARIES = ("numpy", "scipy", "numba", "pillow", "av", "zarr", "tifffile")


def versions() -> dict[str, str]:
    """Return the commit, if it is known, and the versions of Python, the system, and the libraries that can change a result."""
    found = {"commit": build()} if build() else {}
    found |= {"python": platform.python_version(), "system": platform.platform(terse=True)}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def series(known: TiltSeries) -> dict[str, ValueEntry]:
    """Return the values of a series, and where each was read."""

    def entry(field: str, value: Any, unit: str = "") -> ValueEntry:
        return ValueEntry(value=value, unit=unit, source=known.provenance.get(field, ""), doubt=known.doubts.get(field, ""))

    views, ny, nx = known.shape
    header = "header of the stack" if known.montage is None else _COORDINATES
    entries = {
        "container": ValueEntry(value=known.container, source="contents of the file"),
        **(_montage(known.montage, known.provenance.get("montage", "")) if known.montage is not None else {}),
        "views": ValueEntry(value=views, source=header),
        "width": ValueEntry(value=nx, unit="px", source=header),
        "height": ValueEntry(value=ny, unit="px", source=header),
        "pixel_size": entry("pixel_size_angstrom", known.pixel_size_angstrom, "angstrom"),
        "axis_angle": entry("axis_angle_deg", known.axis_angle_deg, "deg"),
        "tilt_angles": entry("tilt_deg", np.round(known.tilt_deg, 3).tolist(), "deg"),
    }
    if known.exposure is not None:
        entries["exposure"] = entry("exposure", np.round(known.exposure, 4).tolist(), "e/angstrom^2")
    if known.exposure_before is not None:
        entries["exposure_before"] = entry("exposure_before", np.round(known.exposure_before, 4).tolist(), "e/angstrom^2")
    if known.acquired is not None:
        entries["acquired"] = entry("acquired", (known.acquired + 1).tolist())
    if known.voltage_kv is not None:
        entries["voltage"] = entry("voltage_kv", known.voltage_kv, "kV")
    if known.target_defocus_nm is not None:
        entries["target_defocus"] = entry("target_defocus_nm", known.target_defocus_nm, "nm")
    if known.frame_stacks is not None:
        entries["half_frames"] = entry("frame_stacks", " and ".join(path.name for path in known.frame_stacks))
    return entries


def _montage(grid: PieceGrid, source: str) -> dict[str, ValueEntry]:
    """Return what is known of the pieces of a montage, and where it was read."""
    (ny, nx), (across, along) = grid.piece_shape, grid.overlap_px
    return {
        "montage": ValueEntry(value=f"{grid.columns} x {grid.rows} pieces", source=source),
        "pieces": ValueEntry(value=grid.sections, source="header of the stack"),
        "piece_size": ValueEntry(value=f"{nx} x {ny}", unit="px", source="header of the stack"),
        "overlap": ValueEntry(value=f"{across} x {along}", unit="px", source=_COORDINATES),
    }


def recipe(made: Recipe, *, requested: Recipe) -> RecipeEntry:
    """Return the recipe with every directive and its status, and the parameters that no directive sets."""
    return RecipeEntry(
        template=made.template,
        digest=made.digest,
        requested=requested.digest,
        parameters=_given_parameters(made),
        stages={field.name: _stage(getattr(made, field.name)) for field in fields(StageParams)},
        directives=[
            DirectiveEntry(name=row.name, value=row.value, status=row.status, reason=row.reason, origin=row.origin)
            for row in made.report.rows
        ],
        defaulted=_defaulted(made) if not rules_of(made.engine).hands_on_to else [],
        request=request(requested),
    )


def request(asked: Recipe) -> RequestEntry:
    """Return what a recipe was made from, of which :func:`tiltflow.recipe.like.recipe_like` makes it again."""
    source = asked.source
    return RequestEntry(
        template=source.name,
        text=source.text,
        layers=[[_given(each) for each in layer] for layer in source.layers],
        missing=list(source.missing),
        overrides=[_given(each) for each in source.overrides],
        parameters=_given_parameters(asked),
        engine=asked.engine,
        fallback_engine=asked.fallback_engine,
        fallback=asked.fallback,
        trust_limit_px=asked.trust_limit_px,
        pyramid=asdict(asked.pyramid),
        alignment=None if asked.alignment is None else str(asked.alignment.absolute()),
    )


def _given_parameters(recipe: Recipe) -> dict[str, int]:
    return {name: value for name, value in asdict(recipe.parameters).items() if value is not None}


def _given(directive: Directive) -> GivenDirective:
    return GivenDirective(name=directive.name, value=directive.value, where=directive.where, line=directive.line)


def _defaulted(made: Recipe) -> list[str]:
    """Return the parameters of the stages, as `stage.name`, that no directive sets."""
    set_by_directives = {name for row in made.report.rows for name in row.sets}
    return [
        name
        for stage in fields(StageParams)
        if is_dataclass(params := getattr(made, stage.name))
        for field in fields(params)
        if (name := f"{stage.name}.{field.name}") not in set_by_directives
    ]


def alignment(found: Alignment, of: TiltSeries) -> dict[str, Any]:
    """Return an alignment and its evidence for :class:`tiltflow.record.AlignmentEntry`, with lengths in nanometres added."""
    evidence = {key: _finite(value) for key, value in asdict(found.evidence).items() if value is not None}
    pixel_nm = of.pixel_size_angstrom / 10
    lengths = {
        key.removesuffix("_px") + "_nm": _scaled(value, pixel_nm)
        for key, value in evidence.items()
        if key.endswith("_px") and key != "residual_vectors_px"
    }
    measured, unknowns = found.evidence.measurements, found.evidence.unknowns
    return {
        "method": found.method,
        "x_axis_tilt_deg": found.x_axis_tilt_deg,
        "z_shift_px": found.z_shift,
        "tilt_deg": np.round(found.tilt_deg, 3).tolist(),
        "included": found.included.tolist(),
        "shift_px": np.round(found.transforms[:, :, 2], 3).tolist(),
        "rotation_deg": np.round(axis_angles(found.transforms), 4).tolist(),
        "magnification": np.round(1 / np.sqrt(np.abs(np.linalg.det(found.transforms[:, :, :2]))), 5).tolist(),
        "measurement_ratio": measured / unknowns if measured and unknowns else None,
        "y_per_z": None if found.y_per_z is None else np.round(found.y_per_z, 6).tolist(),
        "local_areas": len(found.local.centre_px) if found.local is not None else None,
        **evidence,
        **lengths,
        # To the user views count from 1; arrays, and the evidence in memory, count from 0.
        "views_counted_from": 1,
        "excluded_views": {view + 1: why for view, why in found.evidence.excluded_views.items()},
    }


def given_alignment(program: str, files: Iterable[Path]) -> GivenAlignmentEntry:
    """Return the files of an alignment that was given, with what they hold."""
    return GivenAlignmentEntry(program=program, files=[file_entry(path) for path in files])


def file_entry(path: Path, folder: Path | None = None) -> FileEntry:
    """Return a file with its size and checksum; its path is relative to `folder`, if that is given."""
    shown = path if folder is None else path.relative_to(folder)
    return FileEntry(path=str(shown), bytes=path.stat().st_size, sha256=sha256_of(path))


def product(asset: Asset, folder: Path) -> ProductEntry:
    """Return a product with its size and checksum."""
    path = folder / asset.path
    size, checksum = size_bytes(path), sha256_of(path)
    metadata = dict(asset.metadata) if asset.metadata is not None else None
    return ProductEntry(type=str(asset.type), path=asset.path, bytes=size, sha256=checksum, metadata=metadata)


def _finite(value: Any) -> Any:
    """Return a value that JSON can hold: null for what is not finite, also within sequences."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (tuple, list)):
        return [_finite(item) for item in value]
    return value


def _scaled(value: Any, factor: float) -> Any:
    """Return a length, or the lengths of a list, in another unit; null stays null."""
    if isinstance(value, list):
        return [_scaled(item, factor) for item in value]
    return value * factor if value is not None else None


def _stage(params: object) -> Any:
    return asdict(params) if is_dataclass(params) and not isinstance(params, type) else params
