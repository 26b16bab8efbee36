"""The demonstration: a simulated plastic section with gold beads, from the tilt series to all products."""

from __future__ import annotations

import os
from pathlib import Path

from tiltflow import console
from tiltflow.delivery.callback import build_callback, write_callback
from tiltflow.delivery.layout import plain_layout
from tiltflow.formats.mrc import MrcWriter
from tiltflow.formats.tilts import read_tilts
from tiltflow.formats.transforms import read_transforms
from tiltflow.pipeline import run
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.settings import load_site
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import score
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate

_THICKNESS_PX = 140
_FAILED = 3


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


def run_demo(output: Path, *, seed: int, size: int, views: int) -> int:
    """Simulate a series, process it, print the products and the true error of the alignment; return the exit status."""
    inputs, results = output / "input", output / "results"
    inputs.mkdir(parents=True, exist_ok=True)
    source = inputs / "demo.st"
    threads = os.cpu_count() or 1
    console.out.print(f"simulating {source}: {views} views of {size}x{size}, a plastic section with gold beads", markup=False)
    series = simulate(SimulationParams(seed=seed, size=size, views=views, two_surfaces=True), threads=threads)
    write_series(source, series)
    recipe = make_recipe(
        BrtParameters(gold=10, thickness=_THICKNESS_PX, two_surfaces=1),
        overrides=["runtime.AlignedStack.any.binByFactor=1"],
        engine="native",
    )
    with console.progress_display(1) as on_progress:
        result = run([source], recipe, load_site(), results, redo=True, on_progress=on_progress).results[0]
    callback = write_callback(build_callback([result], plain_layout(inputs, results)), results / "callback.json")
    if not result.ok or result.output is None:
        console.show_closing_table([result])
        return _FAILED
    folder = result.output
    found = score(series.truth, read_transforms(folder / "demo.xf"), read_tilts(folder / "demo.tlt"))
    console.out.print(f"\nTrue error of the alignment: {found.rms_px:.2f} px (root mean square over beads and views).\n")
    rows = [(str(asset.type), str(folder / asset.path)) for asset in result.assets]
    rows += [
        ("reconstruction", str(folder / "demo_rec.mrc")),
        ("aligned stack", str(folder / "demo_ali.mrc")),
        ("record", str(folder / "run.json")),
        ("callback", str(callback)),
    ]
    console.show_rows(rows, ("product", "where"))
    return 0
