"""Levelling and centring the specimen in the volume, when the recipe asks for it (`runtime.Positioning.any.sampleType`).

A small aligned stack is held in memory, the specimen is found in small volumes of it, and the alignment is changed so that the
final volume holds the specimen level and centred.  The volume becomes as thick as the specimen plus the extra that was asked for,
unless the recipe sets its thickness.  When the position is uncertain, nothing is changed and a warning gives the reason.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.volume import reconstruct_params
from tiltflow.engines.thickness import PLAUSIBLE_THICKNESS, whole_voxels
from tiltflow.model import Alignment, Stack
from tiltflow.observer import StageObserver
from tiltflow.position.specimen_search import PositionResult, position_section, small_binning
from tiltflow.recipe import Recipe
from tiltflow.reconstruct.aligned_stack import StackParams, align_stack


def position_specimen(job: EngineJob, stack: Stack, alignment: Alignment) -> Alignment:
    """Return the alignment with the tilt offset, x-axis tilt, z shift and thickness by which the volume holds the specimen level."""
    if job.recipe.position.sample_type == 0:
        return alignment
    with job.recorder.stage("positioning") as notes:
        binning = small_binning(stack.shape)
        small = StackParams(binning=binning)
        threads = job.site.threads
        aligned = np.stack(list(align_stack(stack, alignment.transforms, small, threads=threads)))
        found = position_section(
            aligned,
            alignment.tilt_deg,
            job.recipe.position,
            binning=binning,
            included=alignment.included,
            base=reconstruct_params(job, np.dtype(np.float32), alignment),
            threads=threads,
            progress=notes.progress,
        )
        _note(notes, found)
        if not found.confident:
            notes.warn(f"the specimen was not found, so the volume has the requested position: {found.reason}")
            return alignment
        thickness = _thickness(job.recipe, found, notes)
    evidence = replace(alignment.evidence, x_axis_tilt_error_deg=found.pitch_error_deg)
    return replace(found.level(alignment), thickness=thickness, evidence=evidence)


def _note(notes: StageObserver, found: PositionResult) -> None:
    notes.number("tilt_offset", found.tilt_offset_deg, "deg")
    notes.number("tilt_offset_error", found.tilt_error_deg, "deg")
    notes.number("x_axis_tilt", found.x_axis_tilt_deg, "deg")
    notes.number("x_axis_tilt_error", found.pitch_error_deg, "deg")
    notes.number("z_shift", found.z_shift, "px")
    notes.number("z_shift_error", found.centre_error, "px")
    notes.number("specimen_thickness", found.thickness, "px")
    notes.number("specimen_thickness_error", found.thickness_error, "px")
    notes.note(found.reason)


def _thickness(recipe: Recipe, found: PositionResult, notes: StageObserver) -> int | None:
    """Return the thickness of the volume, raw pixels; None for the requested one."""
    asked = recipe.reconstruct.thickness
    if not recipe.position.sets_thickness:
        if found.thickness_known and found.thickness > asked:
            notes.warn(
                f"the specimen is {found.thickness:.0f} px thick, and the volume asked for {asked} px: parts of it are cut off"
            )
        return None
    fallback = f"the volume has the fallback thickness of {asked} px (runtime.Reconstruction.any.fallbackThickness)"
    if not found.thickness_known:
        size = f"{found.thickness:.0f} ± {found.thickness_error:.0f} px"
        notes.warn(f"the thickness of the specimen is too uncertain to be used ({size}): {fallback}")
        return None
    least, greatest = PLAUSIBLE_THICKNESS
    if not least * asked <= found.thickness <= greatest * asked:
        notes.warn(
            f"the specimen seems {found.thickness:.0f} px thick, less than {least:g} or more than {greatest:g} times the {asked} px "
            f"expected: {fallback}"
        )
        return None
    thickness = whole_voxels(found.thickness + recipe.position.extra_thickness, recipe)
    notes.number("volume_thickness", thickness, "px")
    return thickness
