"""A simulated series aligned by one method, as several benchmarks need it."""

from __future__ import annotations

from tiltflow.align.fallback import align_views
from tiltflow.align.methods import AlignParams, Method
from tiltflow.model import Alignment
from tiltflow.parallel import one_thread_for_algebra
from tiltflow.preprocess.preparation import RepairingStack
from tiltflow.simulate.simulated_series import SimulatedSeries


def aligned(series: SimulatedSeries, method: Method, threads: int) -> Alignment:
    """Return the alignment that a method, and its fallbacks, give.

    Raises
    ------
    StageError
        If there is none.
    """
    with one_thread_for_algebra():
        return align_views(
            RepairingStack(series.images),
            series.truth.nominal_deg,
            series.series.axis_angle_deg,
            series.series.pixel_size_angstrom,
            AlignParams(method=method),
            threads=threads,
        )
