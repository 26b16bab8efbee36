"""How near weighted back-projection and SIRT come to the specimen at low dose, where the specimen is known voxel by voxel.

    python benchmarks/sirt.py [--size 192] [--lines 32] [--doses 10 40 400] [--binning 4] [--picture docs/pictures/sirt.png]

A phantom of vesicles, filaments and blobs is projected without any error of alignment and exposed to few electrons, counted for each
pixel of the raw images and view; the views are as if binned, so that a pixel of theirs has the electrons of several.  Prints, for each
dose, the error of the volume against the phantom's own voxels: the part of the phantom's variance that the volume, at its best scale
and level, does not explain, as a root.  A missing wedge alone, without noise, leaves some of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.reconstruct.sirt import SirtParams, reconstruct_sirt
from tiltflow.reconstruct.wbp import ReconstructParams, reconstruct
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import render_specimen, simulate

Volume = NDArray[np.float32]

ROUNDS = (1, 2, 3, 4, 6, 8, 11, 15, 20, 30, 45)
THICKNESS = 110


class Case:
    """A specimen, and some lines of its views at one dose; both as slices `(line, z, x)`, the top first."""

    def __init__(self, size: int, lines: int, electrons: float) -> None:
        params = SimulationParams(
            size=size,
            views=61,
            thickness_px=80,
            crowding=6,
            beads=0,
            axis_deg=0,
            shift_px=0,
            tilt_error_deg=0,
            rotation_jitter_deg=0,
            magnification_jitter=0,
            pitch_deg=0,
            hot_pixels=0,
            dose=electrons,
            seed=3,
        )
        series = simulate(params, threads=1)
        rows = slice((size - lines) // 2, (size + lines) // 2)
        self.tilt = series.nominal_deg
        self.views = series.images[:, rows].astype(np.float32)
        self.truth = -render_specimen(params, THICKNESS)[::-1, rows].transpose(1, 0, 2)

    def back_project(self, rounds_imitated: int = 0) -> Volume:
        """Return the weighted back-projection, by the ramp or by the filter that imitates rounds of SIRT."""
        return self._made(reconstruct, self._params(rounds_imitated))

    def sirt(self, rounds: int, start: Any) -> Volume:
        """Return the volume after some rounds of SIRT from zero or from the back-projection."""
        return self._made(reconstruct_sirt, self._params(), SirtParams(iterations=rounds, start=start))

    def error(self, volume: Volume) -> float:
        """Return the part of the truth that the volume does not explain where most views see it."""
        margin = volume.shape[2] // 6
        inner = (slice(None), slice(None), slice(margin, -margin))
        r = np.corrcoef(volume[inner].ravel(), self.truth[inner].ravel())[0, 1]
        return float(np.sqrt(1 - r**2))

    def _params(self, rounds_imitated: int = 0) -> ReconstructParams:
        return ReconstructParams(thickness=THICKNESS, mode=2, fake_sirt_iterations=rounds_imitated)

    def _made(self, make: Callable[..., Any], *params: Any) -> Volume:
        slabs: list[Volume] = []
        make(self.views, self.tilt, *params, sink=lambda _, slab: slabs.append(slab))
        return np.concatenate(slabs)


def curves(case: Case) -> dict[str, list[float]]:
    """Return the error of each method over the rounds."""
    return {
        "back-projection": [case.error(case.back_project())] * len(ROUNDS),
        "SIRT-like filter": [case.error(case.back_project(n)) for n in ROUNDS],
        "SIRT from zero": [case.error(case.sirt(n, "zero")) for n in ROUNDS],
        "SIRT from back-projection": [case.error(case.sirt(n, "back-projection")) for n in ROUNDS],
    }


def print_table(dose: float, found: dict[str, list[float]]) -> None:
    print(f"\n{dose:g} electrons per raw pixel and view: error against rounds")
    print(f"{'rounds':<28}" + "".join(f"{n:>7}" for n in ROUNDS))
    for name, errors in found.items():
        print(f"{name:<28}" + "".join(f"{error:7.3f}" for error in errors))


def draw(path: Path, found: dict[float, dict[str, list[float]]], dose_shown: float, case: Case) -> None:
    """Draw the curves of all doses, and slices at one of them by each method beside the truth."""
    import matplotlib as mpl

    mpl.use("svg" if path.suffix == ".svg" else "agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 5.6), dpi=110, layout="constrained", facecolor="white")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.75, 1])
    colours = {
        "back-projection": "0.35",
        "SIRT-like filter": "#e08a1e",
        "SIRT from zero": "#1b6ca8",
        "SIRT from back-projection": "#55a868",
    }
    panels = top.subplots(1, len(found), squeeze=False)[0]
    for axes, (dose, lines) in zip(panels, found.items(), strict=True):
        for name, errors in lines.items():
            style = {"linestyle": "--"} if name == "back-projection" else {"marker": "o", "markersize": 3.5}
            axes.plot(ROUNDS, errors, color=colours[name], label=name, **style)
        axes.set_title(f"{dose:g} electrons per raw pixel and view", fontsize=10)
        axes.set(xscale="log", xlabel="rounds")
        axes.set_xticks(ROUNDS, [str(n) if n in {1, 2, 4, 8, 15, 45} else "" for n in ROUNDS], minor=False)
        axes.minorticks_off()
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("error against the specimen")
    panels[0].legend(fontsize=8, frameon=False)
    rounds = ROUNDS[int(np.argmin(found[dose_shown]["SIRT from zero"]))]
    shown = {
        "specimen": case.truth,
        "back-projection": case.back_project(),
        f"SIRT-like filter, {rounds} rounds": case.back_project(rounds),
        f"SIRT from zero, {rounds} rounds": case.sirt(rounds, "zero"),
    }
    for axes, (name, volume) in zip(bottom.subplots(1, 4), shown.items(), strict=True):
        xz = volume[len(volume) // 2]
        low, high = np.percentile(xz, [0.5, 99.5])
        axes.imshow(xz, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(name, fontsize=9)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("0.8")
    bottom.supxlabel(f"a slice across the tilt axis, {dose_shown:g} electrons per raw pixel and view", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--lines", type=int, default=32)
    parser.add_argument("--doses", type=float, nargs="+", default=[10, 40, 400])
    parser.add_argument("--binning", type=int, default=4, help="of the views, whose pixels have the electrons of its square")
    parser.add_argument("--picture", type=Path, default=None, help="draw the curves and slices into this file")
    a = parser.parse_args(arguments)
    found = {}
    for dose in sorted(a.doses):
        found[dose] = curves(Case(a.size, a.lines, dose * a.binning**2))
        print_table(dose, found[dose])
    if a.picture is not None:
        shown = sorted(a.doses)[len(a.doses) // 2]
        draw(a.picture, found, shown, Case(a.size, a.lines, shown * a.binning**2))


if __name__ == "__main__":
    main()
