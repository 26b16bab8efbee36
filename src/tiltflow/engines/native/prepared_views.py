"""The views that this engine works on: repaired, and unusable ones named."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tiltflow.engines.base import EngineJob
from tiltflow.model import Stack
from tiltflow.preprocess.preparation import prepare_views


def prepare(job: EngineJob, raw: Stack) -> tuple[Stack, Mapping[int, str]]:
    """Return the views and those that are left out, counted from 0, with the reason.

    X-ray hits, faults of the camera and pixels that are not numbers are repaired as views are read.
    """
    series, recipe = job.series, job.recipe
    left_out = {int(view): "is left out by the request" for view in np.flatnonzero(~series.included)}
    return prepare_views(
        raw,
        series.tilt_deg,
        recipe.xrays,
        recipe.views,
        left_out=left_out,
        name=series.path.name,
        observer=job.recorder,
        threads=job.site.threads,
    )
