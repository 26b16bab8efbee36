"""What local alignments do for a specimen that bends while it is looked at: the whole engine, from raw views to beads in the volume.

    python benchmarks/local.py [--size 512] [--beads 90] [--bend 8] [--dose 100] [--picture docs/pictures/local.png]

Beads in noise are drawn into raw views of a specimen that domes and shrinks unevenly with the dose, are tracked, aligned and
reconstructed with and without `LocalAlignments`, and once more from a specimen that stays rigid.  Prints what each run says of
itself, and how dark the beads of the volume are compared with those of the rigid specimen.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tiltflow.engines.base import EngineJob
from tiltflow.engines.native import NativeEngine
from tiltflow.formats.mrc import MrcWriter, open_mrc
from tiltflow.formats.series import read_series
from tiltflow.model import Alignment
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import Recorder
from tiltflow.work import Site

Floats = NDArray[np.float64]

TILT = np.linspace(-60, 60, 41)
AXIS_DEG = -8.0
THICKNESS = 100
DIAMETER = 10.0


@dataclass(frozen=True)
class Specimen:
    """Beads between two surfaces, pixels from the centre, and how far they move from the first view to the last."""

    points: Floats
    bend_px: float
    half: float

    def seen_at(self, view: int, shift: Floats) -> Floats:
        """Return where the beads are in a raw view, `(beads, 2)`, pixels from its corner."""
        grow = (1 - np.exp(-2.5 * view / (len(TILT) - 1))) / (1 - np.exp(-2.5)) - 0.5
        x, y, z = self.points.T / self.half
        x1 = self.half * x - 0.4 * self.bend_px * grow * np.sin(np.pi * x)
        y1 = self.half * y - 0.4 * self.bend_px * grow * x * y
        z1 = self.half * z + 2 * self.bend_px * grow * (x**2 + y**2 - 0.5)
        t, a = np.deg2rad([TILT[view], AXIS_DEG])
        u = x1 * np.cos(t) + z1 * np.sin(t)
        return self.half + shift + np.stack([np.cos(a) * u - np.sin(a) * y1, np.sin(a) * u + np.cos(a) * y1], axis=1)


def draw_views(path: Path, specimen: Specimen, size: int, dose: float) -> None:
    """Write a tilt series of dark beads on a grey ground, with the noise of counted electrons."""
    rng = np.random.default_rng(7)
    shifts = np.cumsum(rng.normal(0, 3, (len(TILT), 2)), axis=0)
    shifts -= shifts[len(TILT) // 2]
    label = f"    Tilt axis angle = {AXIS_DEG:.1f}, binning = 1  spot = 8  camera = 0"
    reach = int(DIAMETER)
    grid = np.arange(-reach, reach + 1)
    with MrcWriter(
        path, (len(TILT), size, size), np.int16, pixel_size_angstrom=10, labels=[label], is_stack=True, tilt_deg=TILT
    ) as out:
        for view in range(len(TILT)):
            thick = np.zeros((size, size))
            for x, y in specimen.seen_at(view, shifts[view]):
                i, j = int(x), int(y)
                if reach <= i < size - reach and reach <= j < size - reach:
                    squared = (grid + i + 0.5 - x) ** 2 + (grid + j + 0.5 - y)[:, None] ** 2
                    box = thick[j - reach : j + reach + 1, i - reach : i + reach + 1]
                    box += 2 * np.sqrt(np.maximum((DIAMETER / 2) ** 2 - squared, 0))
            electrons = dose * np.exp(-0.3 / np.cos(np.deg2rad(TILT[view])) - 0.1 * thick)
            out.write((rng.poisson(electrons) * (4000 / dose)).astype(np.float32))


def run(folder: Path, specimen: Specimen, size: int, dose: float, *, local: bool) -> tuple[Alignment, NDArray[np.float32]]:
    """Return the alignment and the volume `(z, y, x)` of a specimen."""
    folder.mkdir()
    source = folder / "B.st"
    draw_views(source, specimen, size, dose)
    overrides = [
        "runtime.AlignedStack.any.binByFactor=1",
        f"comparam.align.tiltalign.TargetPatchSizeXandY={size // 3},{size // 3}",
    ]
    recipe = make_recipe(
        BrtParameters(
            gold=10, thickness=THICKNESS, two_surfaces=1, target_number_of_beads=len(specimen.points), local_alignments=int(local)
        ),
        overrides=overrides,
        engine="native",
    )
    recorder = Recorder.start(folder / "run.json", source, "benchmark")
    made = NativeEngine().reconstruct(EngineJob(read_series(source), recipe, Site(threads=2), folder, recorder))
    if made.alignment is None:
        raise RuntimeError("the native engine gives an alignment")
    return made.alignment, open_mrc(made.volume).read_block().astype(np.float32)


def boxes(volume: NDArray[np.float32], points: Floats, reach: int = 13) -> list[NDArray[np.float32]]:
    """Return the surroundings `(z, y, x)` of each bead away from the edges, dark ones upwards, about where it is darkest."""
    volume = np.float32(np.median(volume)) - np.pad(volume, ((reach, reach), (0, 0), (0, 0)), mode="edge")
    smooth = ndimage.gaussian_filter(volume, DIAMETER / 4)
    centre, found = np.array(volume.shape) / 2, []
    for x, y, z in points:
        index = np.round(centre + np.array([z, y, x]) - 0.5).astype(int)
        if np.all(index[1:] >= 2 * reach) and np.all(index[1:] < np.array(volume.shape[1:]) - 2 * reach):
            near = tuple(slice(max(i - 8, 0), i + 9) for i in index)
            darkest = np.unravel_index(np.argmax(smooth[near]), smooth[near].shape)
            at = [np.clip(part.start + k, reach, n - reach - 1) for part, k, n in zip(near, darkest, volume.shape, strict=True)]
            found.append(volume[tuple(slice(k - reach, k + reach + 1) for k in at)])
    return found


def darkness(box: NDArray[np.float32]) -> float:
    """Return how dark the bead in the middle of a box is, over a fifth of its diameter."""
    smooth = ndimage.gaussian_filter(box, DIAMETER / 5)
    middle = tuple(slice(n // 2 - 3, n // 2 + 4) for n in box.shape)
    return float(smooth[middle].max())


def draw(path: Path, found: dict[str, list[NDArray[np.float32]]]) -> None:
    """Draw the beads that local areas help most, across the tilt axis and along it."""
    from matplotlib.figure import Figure

    names = list(found)
    peak = {name: np.array([darkness(box) for box in found[name]]) for name in names}
    chosen = np.argsort(peak["global"] / peak["local areas"])[:6]
    figure = Figure(figsize=(8, 8), dpi=110, layout="constrained", facecolor="white")
    panels = figure.subplots(2 * len(names), len(chosen))
    for line, (name, plane) in enumerate((name, plane) for plane in ("x and y", "x and z") for name in names):
        for column, bead in enumerate(chosen):
            box = found[name][bead]
            image = box[len(box) // 2] if plane == "x and y" else box[::-1, box.shape[1] // 2]
            axes = panels[line, column]
            axes.imshow(-image, cmap="gray", vmin=-1.3 * peak["rigid specimen"][bead], vmax=0.6 * peak["rigid specimen"][bead])
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_color("0.8")
        panels[line, 0].set_ylabel(f"{name}\n{plane}", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--beads", type=int, default=90)
    parser.add_argument("--bend", type=float, default=8.0, help="pixels")
    parser.add_argument("--dose", type=float, default=100.0, help="electrons per pixel and view")
    parser.add_argument("--picture", type=Path, default=None)
    a = parser.parse_args()
    rng = np.random.default_rng(5)
    points = rng.uniform(-0.46, 0.46, (a.beads, 3)) * [a.size, a.size, 0]
    points[:, 2] = np.where(rng.random(a.beads) < 0.5, 25, -25)
    found: dict[str, list[NDArray[np.float32]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, bend, local in (("rigid specimen", 0.0, False), ("global", a.bend, False), ("local areas", a.bend, True)):
            alignment, volume = run(Path(folder) / name, Specimen(points, bend, a.size / 2), a.size, a.dose, local=local)
            found[name] = boxes(volume, points)
            evidence = alignment.evidence
            print(
                f"{name}: residual {evidence.residual_mean_px:.3f} px, leave-out error {evidence.leave_out_px:.3f} px, "
                f"error {evidence.error_px:.3f} px"
            )
            print(
                f"    {evidence.tracks_used} tracks used, {evidence.tracks_rejected} of no weight; "
                f"rejected before: {dict(evidence.rejected)}"
            )
            for note in evidence.notes:
                if "area" in note:
                    print(f"    {note}")
    best = np.array([darkness(box) for box in found["rigid specimen"]])
    print(f"\n{'darkness of the beads, of that of the rigid specimen':<56}{'mean':>7}{'worst tenth':>13}")
    for name in ("global", "local areas"):
        part = np.array([darkness(box) for box in found[name]]) / best
        print(f"{name:<56}{part.mean():>7.2f}{np.percentile(part, 10):>13.2f}")
    if a.picture is not None:
        draw(a.picture, found)


if __name__ == "__main__":
    main()
