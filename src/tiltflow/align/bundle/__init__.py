"""Bundle adjustment: tracks of features in, the geometry of every view out.  IMOD's counterpart is tiltalign.

The model is tiltalign's.  With c, s the cosine and sine of the tilt, a specimen point (x, y, z) is seen at

    raw = shift + magnification * R(axis angle) ((1 + stretch) c x + s z,  y + skew x)

Stretch and skew are changes of the specimen in its plane, before it is tilted.  A 2 x 2 matrix and a slightly changed tilt undo
all of it but one term: with skew, a height z is seen displaced along y by a fraction of itself, which the solution gives as
`y_per_z` (IMOD's second z factor).

Halved or doubled, most constants of this package change errors, leave-out errors and their estimates on simulated tracks by less than
5 % (benchmarks/sensitivity.py).  The robust weights matter (Tukey's constant, the smoothing of the views' medians: up to 70 % of an
estimate), as do where an error is evaluated (`_PLACES`), the bound of the autocorrelation, and the size and overlap of local areas.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from tiltflow.align.bundle.adjustment import fit_bundle
from tiltflow.align.bundle.assembly import assemble_solution
from tiltflow.align.bundle.params import LocalParams, SolveParams
from tiltflow.align.bundle.piece_shifts import fit_pieces
from tiltflow.align.bundle.problem import build_problem
from tiltflow.align.bundle.restriction import restrict
from tiltflow.align.bundle.solution import Solution, project_solution, triangulate
from tiltflow.align.piece_weights import StitchedPieces
from tiltflow.errors import ParameterError
from tiltflow.model import Tracks

__all__ = ["LocalParams", "Solution", "SolveParams", "project_solution", "solve", "triangulate"]


def solve(
    tracks: Tracks,
    tilt_deg: ArrayLike,
    axis_angle_deg: float,
    params: SolveParams,
    *,
    image_shape: tuple[int, int],
    included: ArrayLike | None = None,
    start: ArrayLike | None = None,
    pieces: StitchedPieces | None = None,
) -> Solution:
    """Return the geometry that fits the tracks best.

    Parameters
    ----------
    tracks
        Positions `(tracks, views, 2)`, x before y, in raw pixels.
    tilt_deg, axis_angle_deg
        Nominal tilts, `(views,)`, and tilt axis angle, degrees.
    params
        Which variables are free, and how outliers are treated.
    image_shape
        `(ny, nx)` of the raw images.
    included
        `(views,)` views to use; all by default.
    start
        A coarse alignment, `(views, 2, 3)`: it determines the specimen's origin, and the position of views without points.
    pieces
        How the views were stitched, if they are those of a montage; every piece then has a shift
        (:mod:`tiltflow.align.bundle.piece_shifts`).

    Returns
    -------
    Solution
        The geometry of all views, the points, residuals in raw pixels, and the evidence.

    Raises
    ------
    ParameterError
        If angles, weights or pieces do not match the tracks; or if there are pieces but no leave-out error, which decides on them.
    StageError
        Fewer than two tracks are seen in three views.
    """
    if pieces is not None and not params.leave_out:
        raise ParameterError("The leave-out error decides whether pieces are shifted: it has to be computed (leave_out)")
    nominal = np.asarray(tilt_deg, float) + params.tilt_angle_offset_deg
    problem = build_problem(tracks, nominal, axis_angle_deg, image_shape, included, start, pieces)
    params, notes = restrict(params, len(problem.track), len(problem.view), int(problem.observations.seen.sum()))
    problem, fit, shifts = fit_pieces(problem, fit_bundle(problem, params), params)
    return replace(assemble_solution(problem, fit, params, notes), pieces=shifts)
