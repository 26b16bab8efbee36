"""The greatest thickness that positioning may give a volume, which the plan has to know before the specimen is found."""

from __future__ import annotations

import math

from tiltflow.recipe import Recipe

PLAUSIBLE_THICKNESS = 0.5, 2.0
"""A thickness found is used if it lies between these multiples of the fallback thickness.  batchruntomo falls back below 0.5; the upper
limit bounds the disk space and memory that are planned for."""


def greatest_thickness(recipe: Recipe) -> int:
    """Return the greatest thickness of the volume, raw pixels, that positioning may set."""
    asked = recipe.reconstruct.thickness
    if recipe.position.sample_type == 0 or not recipe.position.sets_thickness:
        return asked
    return max(asked, whole_voxels(PLAUSIBLE_THICKNESS[1] * asked + recipe.position.extra_thickness, recipe))


def whole_voxels(thickness: float, recipe: Recipe) -> int:
    """Return a thickness rounded up to whole voxels of the volume, raw pixels."""
    binning = recipe.stack.binning
    return max(math.ceil(thickness / binning), 1) * binning
