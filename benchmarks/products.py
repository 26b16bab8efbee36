"""Time of each product, and quality of the movies, as ratios against references measured in the same run.

    python benchmarks/products.py [--threads 2] [--record]

Inputs are made up: 41 views of 652 x 630, a volume of 652 x 630 x 200, and one of 1024 x 1024 x 256 for the pyramid, all int16
noise with structure.  Where IMOD, ffmpeg and GraphicsMagick are on the PATH, the commands of the BRT documentation run on the same
input; otherwise the figure quoted is that of the machine on which they last did.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from record import Figures, add_option
from tiltflow.formats.mrc import MrcWriter, open_mrc
from tiltflow.products import movies
from tiltflow.products.catalogue import STEPS, ProductContext
from tiltflow.products.images import write_jpeg
from tiltflow.products.levels import Levels, common_mean, contrast, picture, section_moments
from tiltflow.products.sections import Voxels

QUOTED_WALL, QUOTED_CPU = 48.0, 62.0
"""Seconds that the documented commands took on 2 cores, with IMOD 4.8.2."""

H264 = ("-vcodec", "libx264", "-pix_fmt", "yuv420p")

PROGRAMS = ("newstack", "mrc2tif", "clip", "binvol", "ffmpeg", "gm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    add_option(parser)
    asked = parser.parse_args()
    figures = Figures("products")
    with figures.printed():
        measure(asked.threads, figures)
    figures.save(asked)


def measure(threads: int, figures: Figures) -> None:
    """Print all tables."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        aligned = make_noise(root / "B_ali.mrc", (41, 630, 652), smooth_z=0)
        volume = make_noise(root / "B_rec.mrc", (200, 630, 652), smooth_z=1)
        context = ProductContext("B", aligned, volume, root / "products", threads)
        warm_up(root, threads)
        bandwidth = copy_bandwidth()
        print(f"memory copy: {bandwidth / 1e9:.1f} GB/s read and written\n")
        time_steps(context, bandwidth, figures)
        compare_commands(context)
        compare_movies(context)
        time_pyramid(root, threads)


def make_noise(path: Path, shape: tuple[int, int, int], smooth_z: float) -> Path:
    """Write noise with structure, 40 sections at a time."""
    rng = np.random.default_rng(1)
    nz, ny, nx = shape
    with MrcWriter(path, shape, np.int16, pixel_size_angstrom=10.0) as out:
        for z in range(0, nz, 40):
            size = (min(40, nz - z), ny, nx)
            noise = gaussian_filter(rng.standard_normal(size, np.float32), (smooth_z, 0.8, 0.8))
            structure = gaussian_filter(rng.standard_normal(size, np.float32), (2 * smooth_z, 6, 6))
            out.write(300 * noise / noise.std() + 200 * structure / structure.std())
    return path


def warm_up(root: Path, threads: int) -> None:
    """Compile, or read what is compiled."""
    small = make_noise(root / "w_rec.mrc", (12, 40, 50), smooth_z=0)
    began = time.perf_counter()
    for step in STEPS:
        step.make(ProductContext("w", small, small, root / "warm", threads))
    print(f"first use of everything: {time.perf_counter() - began:.1f} s")


def copy_bandwidth() -> float:
    """Return the bytes per second of a plain copy, both ways counted."""
    source = np.ones(1 << 27, np.uint8)
    target = np.zeros_like(source)
    best = min(timed(lambda: np.copyto(target, source))[0] for _ in range(5))
    return 2 * source.nbytes / best


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Return wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def time_steps(context: ProductContext, bandwidth: float, figures: Figures) -> None:
    print(f"{'step':18}{'wall s':>8}{'CPU s':>8}{'share':>8}{'x one copy of its input':>26}")
    rows = []
    for step in STEPS:
        wall, cpu = timed(partial(step.make, context))
        read = context.aligned if step.name in ("gen_tilt_movie", "gen_thumbs") else context.volume
        rows.append((step.name, wall, cpu, wall / (2 * read.stat().st_size / bandwidth)))
    total = sum(row[1] for row in rows)
    for name, wall, cpu, copies in rows:
        print(f"{name:18}{wall:8.2f}{cpu:8.2f}{wall / total:8.0%}{copies:26.0f}")
    without = [row for row in rows if row[0] != "gen_zarr"]
    wall, cpu = sum(row[1] for row in without), sum(row[2] for row in without)
    print(f"{'without pyramid':18}{wall:8.2f}{cpu:8.2f}")
    figures.keep("without_pyramid", wall, "s")
    figures.keep("commands", QUOTED_WALL, "s", 0)
    print(f"documented commands, quoted: {QUOTED_WALL:.0f} s wall, {QUOTED_CPU:.0f} CPU s", end="; ")
    print(f"ratios {QUOTED_WALL / wall:.1f} and {QUOTED_CPU / cpu:.1f}\n")


def compare_commands(context: ProductContext) -> None:
    """Run the documented commands where they are installed."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        print(f"documented commands: not run, as these are missing: {', '.join(missing)}\n")
        return
    ours, _ = timed(lambda: [step.make(context) for step in STEPS if step.name != "gen_zarr"])
    theirs, _ = timed(lambda: documented_commands(context, context.folder.parent / "commands"))
    print(f"documented commands: {theirs:.1f} s, tiltflow {ours:.2f} s, ratio {theirs / ours:.1f}\n")


def documented_commands(context: ProductContext, folder: Path) -> None:
    folder.mkdir()

    def run(*command: str) -> None:
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    views, sections = open_mrc(context.aligned).shape[0], open_mrc(context.volume).shape[0]
    for view in range(views):
        run("newstack", "-secs", str(view), str(context.aligned), f"ali.{view:03d}.mrc")
    run("newstack", "-float", "3", *(f"ali.{view:03d}.mrc" for view in range(views)), "ali.mrc")
    run("mrc2tif", "-j", "-C", "0,255", "ali.mrc", "ali")
    run("ffmpeg", "-f", "image2", "-framerate", "4", "-i", "ali.%03d.jpg", *H264, "tilt.mp4")
    run(
        "gm",
        "convert",
        "-size",
        "300x300",
        f"ali.{views // 2:03d}.jpg",
        "-resize",
        "300x300",
        "-sharpen",
        "2",
        "-quality",
        "70",
        "s.jpg",
    )
    for z in range(2, sections - 2):
        run("clip", "avg", "-2d", "-iz", f"{z - 2}-{z + 2}", "-m", "1", str(context.volume), f"ave.{z:04d}.mrc")
    run("newstack", "-float", "3", *(f"ave.{z:04d}.mrc" for z in range(2, sections - 2)), "ave.mrc")
    run("binvol", "-binning", "2", "ave.mrc", "bin.mrc")
    run("mrc2tif", "-j", "-C", "100,255", "ave.mrc", "mov")
    run("ffmpeg", "-f", "image2", "-framerate", "8", "-i", "mov.%03d.jpg", *H264, "rec.mp4")


def compare_movies(context: ProductContext) -> None:
    """Encode the same frames by our options, by the defaults of x264, and as documented, by ffmpeg from JPEG pictures."""
    ours = movies.ENCODER
    defaults = {"preset": "medium", "crf": "23", "x264-params": ours["x264-params"]}
    print(f"{'movie':10}{'encoder':12}{'wall s':>8}{'CPU s':>8}{'MB':>8}{'SSIM':>8}")
    for name, frames, rate in (("tilt", tilt_frames(context), 4), ("section", section_frames(context), 8)):
        exact = list(frames)
        size = movies.movie_size(*exact[0].shape)
        path = context.folder / "compare.mp4"
        for label, options in (("ours", ours), ("x264", defaults)):
            encode = partial(movies.write_movie, path, exact, size, rate, threads=context.threads, encoder=options)
            compare_row(name, label, *timed(encode), path, exact)
        if shutil.which("ffmpeg"):
            compare_row(name, "ffmpeg", *encode_by_ffmpeg(exact, path, rate), path, exact)
    print()


def compare_row(movie: str, encoder: str, wall: float, cpu: float, path: Path, exact: list[NDArray[np.uint8]]) -> None:
    likeness = np.mean([similarity(*pair) for pair in list(zip(exact, decoded(path), strict=True))[::8]])
    print(f"{movie:10}{encoder:12}{wall:8.2f}{cpu:8.2f}{path.stat().st_size / 1e6:8.2f}{likeness:8.4f}")


def encode_by_ffmpeg(exact: list[NDArray[np.uint8]], path: Path, rate: int) -> tuple[float, float]:
    """Call ffmpeg on the pictures that `mrc2tif -j` would leave, and return the seconds of that call alone."""
    with tempfile.TemporaryDirectory() as folder:
        for index, frame in enumerate(exact):
            write_jpeg(Path(folder) / f"{index:03d}.jpg", frame)
        command = ["ffmpeg", "-y", "-f", "image2", "-framerate", str(rate), "-i", f"{folder}/%03d.jpg", *H264, str(path)]
        before, begin = os.times(), time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        after, wall = os.times(), time.perf_counter() - begin
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def tilt_frames(context: ProductContext) -> Iterator[NDArray[np.uint8]]:
    with Voxels(context.aligned) as views:
        levels = common_mean(section_moments(views))
        grey = contrast(levels.minimum, levels.maximum)
        for view in range(views.shape[0]):
            yield picture(views.read(slice(view, view + 1))[0], levels, view, grey, whole=True)


def section_frames(context: ProductContext) -> Iterator[NDArray[np.uint8]]:
    with Voxels(context.folder / "ave_B.mrc") as sections:
        header, count = sections.file.header, sections.shape[0]
        levels = Levels(np.ones(count, np.float32), np.zeros(count, np.float32), header.minimum, header.maximum, header.mean)
        grey = contrast(header.minimum, header.maximum, movies.SECTION_BLACK, movies.SECTION_WHITE)
        for index in range(count):
            yield picture(sections.read(slice(index, index + 1))[0], levels, index, grey, whole=True)


def decoded(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(path) as container:
        return [frame.to_ndarray(format="gray").astype(np.uint8) for frame in container.decode(video=0)]


def similarity(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Return the mean structural similarity of two pictures (Wang et al. 2004, 10.1109/TIP.2003.819861)."""
    a, b = first.astype(np.float32), second.astype(np.float32)
    mean_a, mean_b = gaussian_filter(a, 1.5), gaussian_filter(b, 1.5)
    var_a, var_b = gaussian_filter(a * a, 1.5) - mean_a**2, gaussian_filter(b * b, 1.5) - mean_b**2
    covariance = gaussian_filter(a * b, 1.5) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    numerator = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((numerator / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def time_pyramid(root: Path, threads: int) -> None:
    volume = make_noise(root / "P_rec.mrc", (256, 1024, 1024), smooth_z=0)
    context = ProductContext("P", volume, volume, root / "products", threads)
    wall, cpu = timed(lambda: STEPS[-1].make(context))
    plain_wall, plain_cpu = timed(lambda: plain_levels(volume))
    print(f"pyramid of 1024 x 1024 x 256: {wall:.2f} s wall, {cpu:.2f} CPU s")
    print(f"NumPy's means and histogram alone: {plain_wall:.2f} s wall, {plain_cpu:.2f} CPU s, ratio {plain_cpu / cpu:.2f} of CPU")


def plain_levels(volume: Path) -> None:
    """Bin and count by NumPy, 64 sections at a time, and write nothing."""
    with open_mrc(volume) as file:
        for z in range(0, file.shape[0], 64):
            block = file.read_block(slice(z, z + 64))
            np.bincount(block.astype(np.int64).ravel() + 32768, minlength=65536)
            for _ in range(2):
                k, j, i = (n // 2 for n in block.shape)
                sums = block.reshape(k, 2, j, 2, i, 2).sum((1, 3, 5), dtype=np.int32)
                block = ((sums + 4) >> 3).astype(np.int16)


if __name__ == "__main__":
    main()
