"""The small files of a data set: what is read of an earlier alignment, and what is written of a new one."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import numpy as np

from tiltflow.atomic_write import write_text
from tiltflow.batchruntomo.alignment_logs import render_align_log, render_solution_table
from tiltflow.engines.native.alignment_files import write_alignment_files
from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.edf import edf_entries, parse_edf, render_edf
from tiltflow.formats.tilts import read_tilts, render_tilts
from tiltflow.formats.transforms import read_transforms, render_transforms
from tiltflow.geometry import from_xtilt_file
from tiltflow.model import Alignment, TiltSeries

STACK_EXTENSIONS = ("mrc", "st", "MRC", "ST", "tif", "tiff")
"""Extensions of a raw stack, in the order in which they are looked for."""

_COMMON = ("align.log", "taSolution.log")
_LAST = (".xtilt", ".tlt", ".xf")
_OWN = (".xf", "_fid.xf", ".tlt", ".xtilt", "_align.json", "_fid.txt", "_local.json")


def write_setup(folder: Path, series: TiltSeries, gold_nm: float) -> None:
    """Write `NAME.rawtlt`, unless there is one, and `NAME.edf`."""
    rawtlt = folder / f"{series.name}.rawtlt"
    if not rawtlt.exists():
        write_text(rawtlt, render_tilts(series.tilt_deg))
    _write_edf(folder, series, series.included.tolist(), gold_nm)


def set_aside(folder: Path, series: TiltSeries) -> None:
    """Rename the files of an earlier alignment to `NAME.xf~` and so on, as IMOD does, so that none passes for the new one."""
    for name in (*_COMMON, *(f"{series.name}{suffix}" for suffix in _OWN)):
        path = folder / name
        if path.is_file():
            path.replace(folder / f"{name}~")


def write_alignment(
    scratch: Path, folder: Path, series: TiltSeries, alignment: Alignment, gold_nm: float, *, logs: bool = True
) -> None:
    """Write the files of an alignment into the folder, the logs last: a reader that finds `align.log` finds the others.

    Without `logs` these stay as they are: they tell of a fit that was made before.
    """
    write_alignment_files(scratch, series, alignment)
    for suffix in _OWN:
        made = scratch / f"{series.name}{suffix}"
        if made.is_file() and suffix not in _LAST:
            made.replace(folder / made.name)
    write_text(folder / f"{series.name}_fid.xf", render_transforms(alignment.transforms))
    for suffix in _LAST:
        (scratch / f"{series.name}{suffix}").replace(folder / f"{series.name}{suffix}")
    _write_edf(folder, series, alignment.included.tolist(), gold_nm)
    if logs:
        write_text(folder / "taSolution.log", render_solution_table(series, alignment))
        write_text(folder / "align.log", render_align_log(series, alignment))


def read_alignment(folder: Path, series: TiltSeries) -> Alignment:
    """Return the alignment in `NAME.xf`, `NAME.tlt` and `NAME.xtilt`, without the views that `NAME.edf` leaves out.

    Local areas and z factors are in none of these files, and a shift along z only in `NAME_align.json`.

    Raises
    ------
    LocationError
        If `NAME.xf` or `NAME.tlt` is missing.
    FormatError
        If a file has another number of lines than the stack has views.
    """
    views = series.shape[0]
    place = folder / series.name
    for suffix in (".xf", ".tlt"):
        if not place.with_name(f"{series.name}{suffix}").is_file():
            raise LocationError(
                f"{place}{suffix} does not exist, so there is no alignment to go on from: start at step 6 or before"
            )
    transforms, tilts = read_transforms(f"{place}.xf"), read_tilts(f"{place}.tlt")
    xtilt = Path(f"{place}.xtilt")
    x_tilts = read_tilts(xtilt) if xtilt.is_file() else np.zeros(views)
    for suffix, values in ((".xf", transforms), (".tlt", tilts), (".xtilt", x_tilts)):
        if len(values) != views:
            raise FormatError(f"{place}{suffix} has {len(values)} lines for {views} views of {series.path.name}")
    if np.ptp(x_tilts) > 0:
        raise FormatError(f"{xtilt} has a tilt about x that changes from view to view, which is not supported: make it constant")
    return Alignment(
        transforms=transforms,
        tilt_deg=tilts,
        included=_included(folder, series),
        method="given",
        x_axis_tilt_deg=float(from_xtilt_file(x_tilts[0])),
        z_shift=_z_shift(Path(f"{place}_align.json")),
    )


def _included(folder: Path, series: TiltSeries) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    included = series.included.copy()
    edf = folder / f"{series.name}.edf"
    listed = (
        parse_edf(edf.read_text(encoding="utf-8", errors="replace")).get("Setup.AxisA.ExcludeProjections", "")
        if edf.is_file()
        else ""
    )
    for part in filter(None, listed.replace(" ", "").split(",")):
        first, _, last = part.partition("-")
        try:
            included[int(first) - 1 : int(last or first)] = False
        except ValueError:
            raise FormatError(f"{edf}: {listed!r} is not a list of views such as 2,4-5") from None
    return included


def _z_shift(path: Path) -> float:
    if not path.is_file():
        return 0.0
    try:
        return float(json.loads(path.read_text(encoding="utf-8")).get("z_shift_px") or 0.0)
    except (ValueError, TypeError, AttributeError) as error:
        raise FormatError(f"{path}: cannot be read as an alignment of tiltflow ({error}); remove it or align anew") from error


def _write_edf(folder: Path, series: TiltSeries, included: list[bool], gold_nm: float) -> None:
    """Write `NAME.edf`; entries of an existing one that are not ours stay."""
    path = folder / f"{series.name}.edf"
    before = parse_edf(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else {}
    entries = before | edf_entries(series, included, gold_nm)
    write_text(path, render_edf(entries, datetime.now().astimezone().ctime()))
