"""Levelling and centring the specimen in the volume, when the recipe asks for it (`runtime.Positioning.any.sampleType`).

A small aligned stack is held in memory, the specimen is found in a small volume of it, and the alignment is changed so that the
large volume holds the specimen level and centred.  When it cannot be told where the specimen lies, nothing is changed and a warning
says so.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tiltflow.engines.base import EngineJob
from tiltflow.engines.volume import reconstruct_params
from tiltflow.model import Alignment, Stack
from tiltflow.stages.position import position_section
from tiltflow.stages.stack import StackParams, align_stack

_SMALL_SIDE_PX = 300


def position_specimen(job: EngineJob, stack: Stack, alignment: Alignment) -> Alignment:
    """Return the alignment with the tilt offset, x-axis tilt and z shift that level and centre the specimen."""
    if job.recipe.position.sample_type == 0:
        return alignment
    with job.recorder.stage("positioning") as notes:
        binning = max(1, -(-max(stack.shape[1:]) // _SMALL_SIDE_PX))
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
            progress=job.stage_progress("positioning"),
        )
        notes.number("tilt_offset", found.tilt_offset_deg, "deg")
        notes.number("x_axis_tilt", found.x_axis_tilt_deg, "deg")
        notes.number("z_shift", found.z_shift, "px")
        notes.number("specimen_thickness", found.thickness, "px")
        notes.note(found.reason)
        if not found.confident:
            notes.warn(f"the specimen was not found, so the volume is where it was asked for: {found.reason}")
            return alignment
        asked = job.recipe.reconstruct.thickness
        if found.thickness > asked:
            notes.warn(
                f"the specimen is {found.thickness:.0f} px thick, and the volume asked for {asked} px: parts of it are cut off"
            )
    return replace(
        alignment,
        tilt_deg=alignment.tilt_deg + found.tilt_offset_deg,
        x_axis_tilt_deg=alignment.x_axis_tilt_deg + found.x_axis_tilt_deg,
        z_shift=alignment.z_shift + found.z_shift,
    )
