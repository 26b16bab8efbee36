"""How thick a volume may become where positioning decides it, which the plan has to know before the specimen is found."""

from __future__ import annotations

import math

from tiltflow.recipe import Recipe

BELIEVED = 0.5, 2.0
"""A thickness found is believed between these parts of the one to fall back to."""


def greatest_thickness(recipe: Recipe) -> int:
    """Return the thickness of the volume, raw pixels, that positioning may ask for at most."""
    asked = recipe.reconstruct.thickness
    if recipe.position.sample_type == 0 or not recipe.position.sets_thickness:
        return asked
    return max(asked, whole_voxels(BELIEVED[1] * asked + recipe.position.extra_thickness, recipe))


def whole_voxels(thickness: float, recipe: Recipe) -> int:
    """Return a thickness rounded up to whole voxels of the volume, raw pixels."""
    binning = recipe.stack.binning
    return max(math.ceil(thickness / binning), 1) * binning
