"""The demonstration: a simulated plastic section, or frozen cells, with gold beads, from the tilt series to all products."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow import console
from tiltflow.ctf.history import dose_symmetric_order
from tiltflow.delivery.body import build_callback, write_callback
from tiltflow.delivery.layout import plain_layout
from tiltflow.formats.mrc import MrcWriter
from tiltflow.formats.tilts import read_tilts
from tiltflow.formats.transforms import read_transforms
from tiltflow.pipeline import run
from tiltflow.recipe import BrtParameters, Recipe, make_recipe
from tiltflow.record import CtfEntry, read_record
from tiltflow.report import INDEX_NAME, PAGE_NAME
from tiltflow.settings import load_site
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import score
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate

_FAILED = 3

_CRYO_DOSE = 3.0
"""Exposure of a view of the cryo series, electrons per square ångström: 120 in 40 views, as is usual."""
_CRYO_KV = 300.0
"""What the simulated lens has."""
_CRYO_PIXEL_NM = 0.5
_BETWEEN_VIEWS = timedelta(seconds=35)


@dataclass(frozen=True, slots=True)
class _Demo:
    """What is simulated, in words and in numbers, and how it is processed."""

    name: str
    specimen: str
    params: SimulationParams
    recipe: Recipe


def _plastic(seed: int, size: int, views: int) -> _Demo:
    recipe = make_recipe(
        BrtParameters(gold=10, thickness=140, two_surfaces=1),
        overrides=["runtime.AlignedStack.any.binByFactor=1"],
        engine="native",
    )
    params = SimulationParams(seed=seed, size=size, views=views, two_surfaces=True)
    return _Demo("demo", "a plastic section with gold beads", params, recipe)


def _cryo(seed: int, size: int, views: int) -> _Demo:
    params = SimulationParams(
        seed=seed,
        size=size,
        views=views,
        regime="cryo",
        pixel_nm=_CRYO_PIXEL_NM,
        thickness_px=160,
        beads=15,
        two_surfaces=True,
        dose=_CRYO_DOSE * (10 * _CRYO_PIXEL_NM) ** 2,
        ice=4.0,
        defocus_um=3.5,
        defocus_hand=-1,
        defocus_drift_nm=10.0,
    )
    recipe = make_recipe(BrtParameters(gold=10, thickness=280, two_surfaces=1), template="cryo_brt", engine="native")
    return _Demo("cryo", "frozen cells with gold beads, in a dose-symmetric order", params, recipe)


def write_series(path: Path, series: SimulatedSeries) -> None:
    """Write a simulated series as SerialEM would: angles in the extended header; the axis angle, if it is told, in a title line."""
    axis = f"    Tilt axis angle = {series.header_axis_deg:.1f}, binning = 1  spot = 8  camera = 0"
    with MrcWriter(
        path,
        series.images.shape,
        series.images.dtype,
        pixel_size_angstrom=series.pixel_size_angstrom,
        labels=["SerialEM: simulated tilt series", *([axis] if series.axis_told else [])],
        is_stack=True,
        tilt_deg=series.nominal_deg,
    ) as out:
        for image in series.images:
            out.write(image)


def write_mdoc(path: Path, series: SimulatedSeries, *, exposure: float, defocus_um: float, voltage_kv: float) -> None:
    """Write the `.mdoc` of a simulated series as SerialEM would, taken in a dose-symmetric order.

    Parameters
    ----------
    path
        Of the `.mdoc`.
    series
        The series.
    exposure
        Of each view, electrons per square ångström.
    defocus_um
        That was aimed at, underfocus positive; SerialEM writes it negative.
    voltage_kv
        Of the microscope.
    """
    tilt = series.nominal_deg
    place = np.argsort(dose_symmetric_order(tilt))
    began = datetime(2026, 1, 15, 9, 30)  # noqa: DTZ001  the clock of one microscope
    lines = [
        f"PixelSpacing = {series.pixel_size_angstrom:g}",
        f"ImageFile = {path.stem}",
        f"ImageSize = {series.images.shape[2]} {series.images.shape[1]}",
        f"Voltage = {voltage_kv:g}",
        "",
        "[T = SerialEM: simulated tilt series]",
        f"[T =     Tilt axis angle = {series.header_axis_deg:.1f}, binning = 1  spot = 8  camera = 0]",
    ]
    for view, taken in enumerate(place):
        lines += [
            "",
            f"[ZValue = {view}]",
            f"TiltAngle = {tilt[view]:.3f}",
            f"ExposureDose = {exposure:g}",
            f"PriorRecordDose = {taken * exposure:g}",
            f"TargetDefocus = {-defocus_um:g}",
            f"DateTime = {began + taken * _BETWEEN_VIEWS:%Y-%m-%d  %H:%M:%S}",
        ]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def run_demo(output: Path, *, seed: int, size: int, views: int, cryo: bool = False) -> int:
    """Simulate a series, process it, print the products and what the truth says of the result; return the exit status.

    Parameters
    ----------
    output
        Folder of the series and of its results.
    seed, size, views
        Of the simulation: random numbers, side of the images in pixels, number of views.
    cryo
        Frozen cells, processed by `cryo_brt`, in the place of a plastic section.
    """
    demo = (_cryo if cryo else _plastic)(seed, size, views)
    inputs, results = output / "input", output / "results"
    inputs.mkdir(parents=True, exist_ok=True)
    source = inputs / f"{demo.name}.st"
    threads = os.cpu_count() or 1
    console.out.print(f"simulating {source}: {views} views of {size}x{size}, {demo.specimen}", markup=False)
    series = simulate(demo.params, threads=threads)
    write_series(source, series)
    if cryo:
        aim = demo.params.defocus_um
        write_mdoc(Path(f"{source}.mdoc"), series, exposure=_CRYO_DOSE, defocus_um=aim, voltage_kv=_CRYO_KV)
    with console.progress_display(1) as on_progress:
        result = run([source], demo.recipe, load_site(), results, redo=True, on_progress=on_progress).results[0]
    callback = write_callback(build_callback([result], plain_layout(inputs, results)), results / "callback.json")
    if not result.ok or result.output is None:
        console.show_closing_table([result])
        return _FAILED
    _compare_with_truth(demo, series, result.output)
    rows = [(str(asset.type), str(result.output / asset.path)) for asset in result.assets]
    rows += [
        ("page", str(result.output / PAGE_NAME)),
        ("index", str(results / INDEX_NAME)),
        ("reconstruction", str(result.output / f"{demo.name}_rec.mrc")),
        ("aligned stack", str(result.output / f"{demo.name}_ali.mrc")),
        ("record", str(result.output / "run.json")),
        ("callback", str(callback)),
    ]
    console.show_rows(rows, ("product", "where"))
    return 0


def _compare_with_truth(demo: _Demo, series: SimulatedSeries, folder: Path) -> None:
    found = score(series.truth, read_transforms(folder / f"{demo.name}.xf"), read_tilts(folder / f"{demo.name}.tlt"))
    console.out.print(f"\nTrue error of the alignment: {found.rms_px:.2f} px (root mean square over beads and views).\n")
    ctf = read_record(folder / "run.json").ctf
    if series.truth.defocus_nm is not None and ctf is not None:
        for line in _describe_defocus(ctf, series.truth.defocus_nm, demo.params.defocus_hand):
            console.out.print(line, markup=False)
        console.out.print()


def _describe_defocus(ctf: CtfEntry, true_nm: NDArray[np.float64], true_hand: int) -> list[str]:
    """Return what was found of the defocus beside the truth, in lines."""
    if not ctf.defocus_nm:
        return [f"Defocus: not found, {ctf.reason}; {np.median(true_nm):.0f} nm in truth."]
    found_nm = np.array(ctf.defocus_nm)
    off = found_nm - true_nm
    claimed = "no error claimed" if ctf.mean_error_nm is None else f"± {ctf.mean_error_nm:.0f} nm"
    hand = "not decided" if ctf.hand_measured is None else f"{ctf.hand_measured:+d}"
    return [
        f"Defocus, mean of the views: {found_nm.mean():.0f} nm found ({claimed}), {true_nm.mean():.0f} nm in truth.",
        f"Defocus, median of the views: {np.median(found_nm):.0f} nm found, {np.median(true_nm):.0f} nm in truth.",
        f"Defocus of single views: {np.sqrt(np.mean(off**2)):.0f} nm off (root mean square), {np.abs(off).max():.0f} nm the worst.",
        f"Hand of its gradient: {hand} found, {true_hand:+d} in truth.",
    ]
