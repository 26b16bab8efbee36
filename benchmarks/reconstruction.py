"""How fast an aligned stack becomes a volume, against references measured in the same run.

    python benchmarks/reconstruction.py [--size 1024] [--views 61] [--thickness 256] [--threads 2] [--folder DIR] [--record]

Prints a table of rates and ratios: the back-projection kernel against a plain scalar loop compiled the same way, against `tilt`
when IMOD is on the PATH, and against what the memory can do; the whole step from the stack on disk to the volume on disk; x-axis
tilt; SIRT; and the aligned stack before it.  Rates are voxel-views per CPU second of the quickest of three, as wall time depends on
what else is running.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from record import Figures, add_option
from tiltflow import geometry
from tiltflow.formats.mrc import MrcWriter, convert, open_mrc
from tiltflow.kernels import kernel
from tiltflow.kernels.backprojection import backproject, stretch_lines
from tiltflow.kernels.projection import project
from tiltflow.model import LocalAlignment, Stack
from tiltflow.reconstruct.aligned_stack import StackParams, align_stack
from tiltflow.reconstruct.sirt import SirtParams, reconstruct_sirt
from tiltflow.reconstruct.stretched_lines import SliceGrid, stretched_lines
from tiltflow.reconstruct.trim import Trim, TrimParams
from tiltflow.reconstruct.wbp import ReconstructParams, ReconstructResult, reconstruct, volume_shape

Floats = NDArray[np.float32]

IMOD_RATE = "0.7 to 1.3"
"""Voxel-views per second on a core, 1e9, of `tilt` in IMOD 4.8.2, by build and load."""


@kernel(fastmath=True)
def plain_loop(lines: Floats, cosine: Floats, sine: Floats, out: Floats) -> None:
    """Back-project in the obvious way: voxel by voxel, view by view, one interpolation each."""
    nz, nx = out.shape
    width = lines.shape[1]
    for z in range(nz):
        for x in range(nx):
            total = np.float32(0)
            for v in range(lines.shape[0]):
                p = (x + 0.5 - nx / 2) * cosine[v] + (nz / 2 - z - 0.5) * sine[v] + width / 2 - 0.5
                i = int(np.floor(p))
                if 0 <= i < width - 1:
                    f = np.float32(p - i)
                    total += lines[v, i] + f * (lines[v, i + 1] - lines[v, i])
            out[z, x] = total


def cpu_seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """Return the CPU time of the quickest of a few calls, on all threads."""
    best = np.inf
    for _ in range(repeats):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best


def row(name: str, value: float, unit: str, note: str = "") -> None:
    print(f"{name:<52}{value:>9.2f} {unit:<8}{note}")


def kernels(size: int, views: int, thickness: int, figures: Figures) -> Callable[[], float]:
    """Print the rates of the kernels and return what measures that of back-projection again."""
    rng = np.random.default_rng(1)
    tilt = np.linspace(-60, 60, views)
    filtered = rng.normal(size=(views, size)).astype(np.float32)
    s = stretched_lines(tilt, size, SliceGrid(size, thickness))
    lines, xz = np.empty(s.length, np.float32), np.empty((thickness, size), np.float32)
    fill = np.zeros(views, np.float32)
    work = size * thickness * views / 1e9

    def stretch() -> None:
        stretch_lines(filtered, s.even, s.odd, s.count, s.inside, s.pixel, s.fraction, fill, lines)

    def smear() -> None:
        backproject(lines, s.even, s.odd, s.shift, s.slope, np.float32(0), xz)

    def plain() -> None:
        angles = np.deg2rad(tilt)
        plain_loop(filtered, np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32), xz)

    def look() -> None:
        project(xz, s.even, s.odd, s.shift, s.slope, lines)

    for compiled in (stretch, smear, plain, look):
        compiled()
    stretch()
    scalar = work / cpu_seconds(plain)

    def smearing() -> float:
        return work * 10 / cpu_seconds(lambda: [smear() for _ in range(10)])

    rate = smearing()
    stretching = 10 * work / cpu_seconds(lambda: [stretch() for _ in range(10)])
    looking = 10 * work / cpu_seconds(lambda: [look() for _ in range(10)])
    row("plain scalar loop, compiled the same way", scalar, "G/s")
    row("back-projection kernel", rate, "G/s", f"{rate / scalar:.1f} times the plain loop")
    row("  with its lines stretched", 1 / (1 / rate + 1 / stretching), "G/s")
    row("projection kernel (its transpose)", looking, "G/s")
    copied, source = np.empty(64 << 20, np.float32), np.ones(64 << 20, np.float32)
    copy = 2 * source.nbytes / 1e9 / cpu_seconds(lambda: np.copyto(copied, source))
    row("memory: copy of 256 MB", copy, "GB/s")
    traffic = rate * (8 + 8 / 4)
    row("  the kernel's loads and stores", traffic, "GB/s", f"{traffic / copy:.1f} times the memory's: lives in the caches")
    row("  its arithmetic", rate * 4, "Gflop/s", "2 multiply-adds a voxel-view; 10 bytes: bound by loads")
    figures.keep("kernel", rate, "G/s")
    figures.keep("kernel_over_plain", rate / scalar, "times", 0)
    figures.keep("kernel_over_memory", traffic / copy, "times", 0)
    return smearing


def imod(path: Path, tilt: NDArray[np.float64], thickness: int, work: float) -> float | None:
    """Print and return the rate of IMOD's tilt on the same stack; None without it."""
    if shutil.which("tilt") is None:
        print("tilt (IMOD) is not on the PATH: no comparison")
        return None
    np.savetxt(path.with_suffix(".tlt"), tilt, fmt="%.2f")
    commands = f"TILTFILE {path.with_suffix('.tlt')}\nTHICKNESS {thickness}\nPERPENDICULAR\nMODE 1\nRADIAL 0.35 0.05\nSCALE 0 0.2\n"
    begin = time.perf_counter()
    subprocess.run(
        ["tilt", str(path), str(path.with_suffix(".imod"))], input=commands + "DONE\n", text=True, check=True, capture_output=True
    )
    rate = work / (time.perf_counter() - begin)
    row("tilt (IMOD), whole step", rate, "G/s")
    return rate


def whole_step(
    path: Path, tilt: NDArray[np.float64], thickness: int, threads: int, smearing: Callable[[], float], figures: Figures
) -> None:
    """Print the rate from the stack on disk to the trimmed volume on disk.

    Its share of the kernel's is the median of five runs, after each of which the kernel is measured again.
    """
    plain = 0.0
    with open_mrc(path) as stack:
        for key, name, changes in (
            ("step", "aligned stack on disk to volume on disk", {}),
            ("x_axis_tilt", "  with an x-axis tilt of 5 degrees", {"x_axis_tilt_deg": 5.0}),
            ("z_factors", "  with z factors, as of a skew of 0.3 degrees", {"y_per_z": 0.0052 * np.sin(np.deg2rad(tilt))}),
            ("local", "  with local alignments, 5 x 5 areas", {"local": areas(stack.shape[2], tilt)}),
            (
                "all_three",
                "  with all three",
                {"x_axis_tilt_deg": 5.0, "y_per_z": 0.0052 * np.sin(np.deg2rad(tilt)), "local": areas(stack.shape[2], tilt)},
            ),
        ):
            pairs = [(_timed(stack, tilt, thickness, path.with_suffix(".rec"), threads, changes), smearing()) for _ in range(5)]
            result, cpu, wall = min((timed for timed, _ in pairs), key=lambda timed: timed[1])
            shares = sorted(timed[0].voxel_views / timed[1] / 1e9 / kernel for timed, kernel in pairs)
            rate = result.voxel_views / cpu / 1e9
            plain = plain or rate
            times = f"{plain / rate:.2f} times the plain one; " if changes else ""
            figures.keep(key, rate, "G/s")
            figures.keep(f"{key}_cost", plain / rate, "times")
            share = f"{100 * shares[2]:.0f} % of the kernel ({100 * shares[0]:.0f} to {100 * shares[-1]:.0f})"
            if not changes:
                figures.keep("step_share", 100 * shares[2], "%", 0)
                figures.keep("step_rest", cpu - result.seconds["back-project"], "CPU s")
            row(name, rate, "G/s", f"{times}{cpu:.2f} CPU s, {wall:.2f} s on {threads} threads, {share}")
            print("    " + ", ".join(f"{phase} {seconds:.2f}" for phase, seconds in result.seconds.items()) + " CPU s")
        few = np.stack([stack[v][: max(8, stack.shape[1] // 32)] for v in range(len(tilt))])
        begin = time.process_time()
        reconstruct_sirt(few, tilt, ReconstructParams(thickness=thickness), SirtParams(iterations=5), sink=lambda _y, _s: None)
        rounds = few.shape[0] * few.shape[1] * few.shape[2] * thickness * 5 / 1e9 / (time.process_time() - begin)
        row("SIRT: rounds of projection and back-projection", rounds, "G/s")
        figures.keep("sirt_round", rounds, "G/s")


def areas(size: int, tilt: NDArray[np.float64]) -> LocalAlignment:
    """Return 5 x 5 areas that move by about a pixel, turn by 0.1 degree and tilt by 0.1 degree, each in its own way."""
    rng = np.random.default_rng(4)
    centres = np.array([(x, y) for y in np.linspace(-0.35, 0.35, 5) for x in np.linspace(-0.35, 0.35, 5)]) * size
    waves = np.stack([np.sin(k * np.deg2rad(tilt) + k) for k in range(1, 5)])
    along = np.einsum("fk,kv->fv", rng.normal(size=(6, 4)) / 2, waves)
    local = np.tile(np.eye(2, 3), (len(centres), len(tilt), 1, 1))
    x, y = (centres.T / size)[..., None]
    turn = np.deg2rad(0.1) * along[0] * x
    local[:, :, 0, 0] = local[:, :, 1, 1] = 1 + 1e-3 * along[1] * y
    local[:, :, 1, 0], local[:, :, 0, 1] = turn, -turn
    local[:, :, 0, 2], local[:, :, 1, 2] = 3 * (x**2 - y) * along[2], 3 * (x * y + y**2) * along[3]
    return LocalAlignment(centres, (5, 5), local, 0.2 * x * along[4], np.full(len(centres), 9))


def _timed(
    stack: Stack, tilt: NDArray[np.float64], thickness: int, path: Path, threads: int, changes: dict[str, Any]
) -> tuple[ReconstructResult, float, float]:
    path.unlink(missing_ok=True)
    distortion = {name: changes[name] for name in ("local", "y_per_z") if name in changes}
    params = ReconstructParams(thickness=thickness, **{name: value for name, value in changes.items() if name not in distortion})
    trim = Trim(volume_shape(stack.shape, params), TrimParams())
    cpu, wall = time.process_time(), time.perf_counter()
    with MrcWriter(path, trim.output_shape, np.int16, pixel_size_angstrom=1.0, take_statistics=False) as out:

        def sink(y0: int, slab: NDArray[Any]) -> None:
            placed = trim.place(y0, slab)
            if placed is not None:
                out.write_block(placed[1], y=placed[0][1].start)

        result = reconstruct(stack, tilt, params, sink=sink, threads=threads, **distortion)
        out.set_statistics(result.minimum, result.maximum, result.mean)
    return result, time.process_time() - cpu, time.perf_counter() - wall


def aligned_stack(size: int, views: int, threads: int) -> None:
    """Print the CPU time of an aligned stack."""
    rng = np.random.default_rng(2)
    raw = rng.normal(2000, 300, (views, size, size)).astype(np.int16)
    transforms = geometry.from_axis_and_shifts(-8.0, rng.normal(0, 10, (views, 2)))
    for binning in (1, 4):
        params = StackParams(binning=binning)

        def work(params: StackParams = params) -> None:
            for image in align_stack(raw, transforms, params, threads=threads):
                convert(image, np.int16)

        row(f"aligned stack of {views} views of {size}, binning {binning}", cpu_seconds(work), "CPU s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--views", type=int, default=61)
    parser.add_argument("--thickness", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None, help="where the stack and the volume are written")
    add_option(parser)
    a = parser.parse_args()
    figures = Figures("reconstruction")
    figures.keep("imod_tilt", IMOD_RATE, "G/s")
    with figures.printed():
        measure(a, figures)
    figures.save(a)


def measure(a: argparse.Namespace, figures: Figures) -> None:
    """Print all tables."""
    print(f"{a.views} views of {a.size} x {a.size} to {a.size} x {a.size} x {a.thickness}; rates per CPU second")
    smearing = kernels(a.size, a.views, a.thickness, figures)
    tilt = np.linspace(-60, 60, a.views)
    with tempfile.TemporaryDirectory(dir=a.folder) as folder:
        path = Path(folder) / "stack.mrc"
        rng = np.random.default_rng(3)
        with MrcWriter(path, (a.views, a.size, a.size), np.int16, pixel_size_angstrom=1.0) as stack:
            for _ in range(a.views):
                stack.write(rng.normal(2000, 300, (1, a.size, a.size)).astype(np.int16))
        whole_step(path, tilt, a.thickness, a.threads, smearing, figures)
        imod(path, tilt, a.thickness, a.size * a.size * a.thickness * a.views / 1e9)
    aligned_stack(a.size, a.views, a.threads)


if __name__ == "__main__":
    main()
