"""A step whose output on a small case has changed must have a higher number: else results of before would be taken for those of now.

`tests/data/steps/fingerprints.json` holds each step's number, and figures of its output at that number.  When a test here fails
because an output has changed on purpose, raise the number of the step and of no other, and renew the file:

    python -m tests.pipeline.test_step_numbers
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
import zarr
from PIL import Image
from tests.montages import write_simulated

from tiltflow.demo import write_series
from tiltflow.engines.stitching import read_offsets
from tiltflow.formats.alignment_archive import read_alignment
from tiltflow.formats.defocus import read_defocus
from tiltflow.formats.mrc import open_mrc
from tiltflow.formats.tilts import write_tilts
from tiltflow.formats.transforms import write_transforms
from tiltflow.pipeline import process
from tiltflow.pipeline.step_book import step_numbers
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import read_record
from tiltflow.simulate.montage import simulate_montage
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate
from tiltflow.work import Site

KNOWN = Path(__file__).parents[1] / "data" / "steps" / "fingerprints.json"
SIMULATED = SimulationParams(size=192, views=21, beads=12, thickness_px=50, pixel_nm=2, bead_nm=20)
ICE = SimulationParams(
    regime="cryo", size=256, views=13, particle_px=1.0, beads=0, ice=8.0, dose=200.0, pixel_nm=0.5, hot_pixels=0, thickness_px=60
)
PIECES = SimulationParams(size=112, views=9, beads=14, bead_nm=10, thickness_px=50, max_tilt_deg=48, seed=2)
WITHOUT_OUTPUT = {"source", "engine", "given volumes"}
"""Steps of which there is nothing to look at here: keys of inputs, and the work of a program that is not installed."""
TOLERANCE = 5e-3
"""Relative difference up to which an output is the same: libraries and processors differ by far less, changes of a method by more."""


@cache
def fingerprints() -> dict[str, list[float]]:
    """Return figures of what each step makes of a small series."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_series(folder / "B.st", simulate(SIMULATED))
        directives = ["runtime.Positioning.any.sampleType=1", "runtime.Tiltflow.any.halfVolumes=1"]
        recipe = make_recipe(BrtParameters(gold=20, thickness=60), overrides=directives, engine="native")
        out = folder / "out"
        assert process(folder / "B.st", recipe, Site(scratch=folder / "scratch"), output=out).ok
        volume, ice = read_record(out / "run.json").volume, processed_ice(folder / "ice")
        return {
            "stitching": of_stitching(stitched_montage(folder / "pieces")),
            "alignment": of_alignment(out / "B_align.npz"),
            "positioning": of_alignment(out / "B_levelled.npz"),
            "ctf": [*of_array(read_defocus(ice / "B.defocus").defocus_nm), *of_mrc(ice / "B_ali.mrc")],
            "aligned stack": of_mrc(out / "B_ali.mrc"),
            "reconstruction": of_mrc(out / "B_rec.mrc"),
            "half volumes": [*of_mrc(out / "B_rec_even.mrc"), *of_mrc(out / "B_rec_odd.mrc")],
            "deconvolved volume": of_mrc(ice / "B_deconv.mrc"),
            "diffused volume": of_mrc(ice / "B_nad.mrc"),
            "measure": [volume.mean, volume.sd, volume.window_low, volume.window_high, *volume.spectrum_power[:20:4]],
            "gen_tilt_movie": of_movie(out / "tiltMov_B.mp4"),
            "gen_thumbs": of_image(out / "keyimg_B_s.jpg"),
            "gen_ave_mrc": of_mrc(out / "ave_B.mrc"),
            "gen_recon_movie": of_movie(out / "keyMov_B.mp4"),
            "gen_ave_8_vol": of_mrc(out / "avebin8_B.mrc"),
            "gen_zarr": of_pyramid(out / "B_rec.zarr"),
        }


def processed_ice(folder: Path) -> Path:
    """Return the folder of the results of a series of ice, corrected, whose alignment is given."""
    folder.mkdir()
    made = simulate(ICE)
    write_series(folder / "B.st", made)
    write_transforms(folder / "B.xf", made.truth.transforms())
    write_tilts(folder / "B.tlt", made.truth.true_deg)
    asked = ["cryoCorrections=1", "deconvolve=1"]
    directives = [f"runtime.Tiltflow.any.{each}" for each in asked] + ["setupset.copyarg.voltage=300", "setupset.copyarg.dosesym=1"]
    directives += ["runtime.NAD.any.iterations=2", "runtime.NAD.any.Kvalue=10", "comparam.mtffilter.mtffilter.FixedImageDose=3"]
    directives += ["runtime.AlignedStack.any.binByFactor=1"]
    recipe = make_recipe(BrtParameters(thickness=60), overrides=directives, engine="native", alignment=folder / "B.xf")
    out = folder / "out"
    assert process(folder / "B.st", recipe, Site(scratch=folder / "scratch"), output=out).ok
    return out


def stitched_montage(folder: Path) -> Path:
    """Return where the pieces of a montage lie, as a run found it."""
    folder.mkdir()
    source = write_simulated(folder / "B.st", simulate_montage(PIECES, overlap_px=32))
    recipe = make_recipe(BrtParameters(gold=10, thickness=60), engine="native")
    assert process(source, recipe, Site(scratch=folder / "scratch"), output=folder / "out").ok
    return folder / "out" / "B_montage.npz"


def of_stitching(path: Path) -> list[float]:
    found = read_offsets(path)
    return [figure for each in (found.offset_px, found.error_px, found.gray.log_gain) for figure in of_array(each)]


def of_array(values: Iterable[float]) -> list[float]:
    """Return size, mean and spread of an array, and of its first and last quarter: a shift or a flip changes these."""
    flat = np.asarray(values, float).ravel()
    quarter = max(len(flat) // 4, 1)
    parts = (flat, flat[:quarter], flat[-quarter:])
    return [float(len(flat)), *(float(figure) for part in parts for figure in (part.mean(), part.std()))]


def of_alignment(path: Path) -> list[float]:
    alignment = read_alignment(path)
    return [
        *of_array(alignment.transforms),
        *of_array(alignment.tilt_deg),
        alignment.x_axis_tilt_deg,
        float(alignment.thickness or 0),
    ]


def of_mrc(path: Path) -> list[float]:
    with open_mrc(path) as file:
        return [*map(float, file.shape), *of_array(file.read_block())]


def of_movie(path: Path) -> list[float]:
    with av.open(str(path)) as movie:
        frames = [frame.to_ndarray(format="gray") for frame in movie.decode(video=0)]
        rate = float(movie.streams.video[0].average_rate)
    return [rate, *map(float, np.shape(frames)), *of_array(np.stack(frames))]


def of_image(path: Path) -> list[float]:
    return of_array(np.asarray(Image.open(io.BytesIO(path.read_bytes()))))


def of_pyramid(path: Path) -> list[float]:
    group = zarr.open_group(path / "0", mode="r")
    return [figure for name in sorted(group.array_keys()) for figure in of_array(group[name][:])]


def same(now: list[float], before: list[float]) -> bool:
    return len(now) == len(before) and bool(np.allclose(now, before, rtol=TOLERANCE, atol=TOLERANCE))


def test_every_step_is_looked_at():
    assert set(step_numbers()) == set(fingerprints()) | WITHOUT_OUTPUT


@pytest.mark.parametrize("step", sorted(set(step_numbers()) - WITHOUT_OUTPUT))
def test_an_output_that_has_changed_has_a_higher_number(step):
    before = json.loads(KNOWN.read_text())[step]
    assert before["number"] == step_numbers()[step], f"the number of {step!r} was raised: renew {KNOWN.name}, as said above"
    assert same(fingerprints()[step], before["figures"]), f"{step!r} gives another output: raise its number, as said above"


def test_the_comparison_sees_a_flip_a_shift_and_a_factor(rng):
    image = np.linspace(0, 1, 64 * 64).reshape(64, 64) + rng.normal(0, 0.1, (64, 64))
    figures = of_array(image)
    assert same(of_array(image * 1.0001), figures)
    for changed in (image[::-1], image * 1.05, image + 0.05, image[:-1]):
        assert not same(of_array(changed), figures)


def renew() -> None:
    """Write the figures of all steps; refuse where an output has changed, and neither its number nor that of a step before it."""
    known = json.loads(KNOWN.read_text()) if KNOWN.exists() else {}
    numbers, found = step_numbers(), fingerprints()
    lies = []
    for step in found:  # in the order of the work: each is made from those before it
        if step not in known or known[step]["number"] != numbers[step]:
            break
        if not same(found[step], known[step]["figures"]):
            lies.append(step)
    if lies:
        raise SystemExit(f"raise the numbers of {', '.join(lies)} first")
    KNOWN.parent.mkdir(parents=True, exist_ok=True)
    entries = {
        step: {"number": numbers[step], "figures": [float(f"{figure:.6g}") for figure in found[step]]} for step in sorted(found)
    }
    KNOWN.write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    renew()
