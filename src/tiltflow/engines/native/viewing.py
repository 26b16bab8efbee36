"""Volumes to look at, made of the reconstruction on request: deconvolved (`B_deconv.mrc`) and diffused (`B_nad.mrc`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tiltflow.ctf.recorded import transfer_of_volume
from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.step_numbers import STEP_NUMBERS
from tiltflow.filters.deconvolve import deconvolve_file
from tiltflow.filters.diffuse import diffuse_file

DECONVOLVED, DIFFUSED = "_deconv.mrc", "_nad.mrc"
"""Endings of their files."""


def make_viewing_volumes(job: EngineJob, volume: Path, after: str) -> None:
    """Make of a volume those that the recipe asks for; `after` is the key of the volume."""
    _deconvolve(job, volume, after)
    _diffuse(job, volume, after)


def _deconvolve(job: EngineJob, volume: Path, after: str) -> None:
    asked, ctf = job.recipe.deconvolve, job.recorder.record.ctf
    if asked is None:
        return
    transfer = transfer_of_volume(ctf)
    if ctf is None or transfer is None:
        why = "nothing asked for the CTF (runtime.Tiltflow.any.cryoCorrections)" if ctf is None else ctf.reason
        job.recorder.warn(f"no deconvolved volume is made, as the defocus is not known: {why}")
        return
    params = replace(asked, phase_flipped=ctf.applied)
    name = "deconvolved volume"
    step = job.book.begin(
        name, STEP_NUMBERS[name], (after,), (params, ctf.model_dump(mode="json", include={"defocus_nm", "applied"}))
    )
    path = job.path(DECONVOLVED)
    if step.kept is not None:
        step.bring(job.workdir)
        return
    pixel_nm = job.series.pixel_size_angstrom * job.recipe.stack.binning / 10
    with job.recorder.stage(name) as notes:
        deconvolve_file(volume, path, pixel_nm, transfer, params, threads=job.site.threads, progress=notes.progress)
        notes.number("strength", params.strength)
        notes.number("falloff", params.falloff)
    job.book.made(step, {path.name: path})


def _diffuse(job: EngineJob, volume: Path, after: str) -> None:
    params = job.recipe.diffuse
    if params is None:
        return
    name = "diffused volume"
    step, path = job.book.begin(name, STEP_NUMBERS[name], (after,), params), job.path(DIFFUSED)
    if step.kept is not None:
        step.bring(job.workdir)
        return
    with job.recorder.stage(name) as notes:
        diffuse_file(volume, path, params, threads=job.site.threads, progress=notes.progress)
        notes.number("K", params.k, "grey value/px")
        notes.number("iterations", params.iterations)
    job.book.made(step, {path.name: path})
