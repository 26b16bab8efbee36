"""`align.log` and `taSolution.log`: the lines of tiltalign that importers read, with the figures of tiltflow's alignment.

Lengths are nanometres, as in IMOD 5, which RELION takes them for.  The angles in `NAME.tlt` are final: no line gives an angle offset,
which RELION would subtract from them.  Nothing is printed that was not measured: an alignment without tracks has no residuals.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tiltflow import geometry
from tiltflow.model import Alignment, TiltSeries
from tiltflow.version import __version__

_TABLE = " view   rotation    tilt    deltilt     mag      dmag      skew    mean resid"


def render_align_log(series: TiltSeries, alignment: Alignment) -> str:
    """Return the text of `align.log`."""
    lines = [
        f"tiltflow {__version__}: alignment of {series.name}, in the place of IMOD's tiltalign",
        f"  Method = {alignment.method}",
        f"  ImageFile = {series.path.name}",
        "  ImagesAreBinned = 1",
        f"  RotationAngle = {series.axis_angle_deg:g}",
        f"  OutputTiltFile = {series.name}.tlt",
        f"  OutputTransformFile = {series.name}.xf",
        "",
        *_counts(alignment),
        "",
        f" At minimum tilt, rotation angle is {_rotation_at_zero(alignment):6.2f}",
        "",
        *_table(series, alignment),
        "",
        *figures(series, alignment),
        "",
        f" X axis tilt needed = {alignment.x_axis_tilt_deg:5.2f}",
        *(f" WARNING: {text}" for text in alignment.evidence.trust_warnings),
        "SUCCESSFULLY COMPLETED",
    ]
    return "\n".join(lines) + "\n"


def render_solution_table(series: TiltSeries, alignment: Alignment) -> str:
    """Return the text of `taSolution.log`: one line for each view that was aligned; the mean residual is in nm."""
    return "\n".join(_table(series, alignment)) + "\n"


def figures(series: TiltSeries, alignment: Alignment) -> Iterator[str]:
    """Yield the lines on residuals and errors, in nm."""
    evidence, nm = alignment.evidence, series.pixel_size_angstrom / 10
    if evidence.residual_mean_px is not None:
        sd = evidence.residual_sd_px or 0.0
        yield f" Residual error mean and sd:  {evidence.residual_mean_px * nm:8.3f}{sd * nm:8.3f} nm"
    if evidence.residual_weighted_mean_px is not None:
        yield f" Residual error weighted mean: {evidence.residual_weighted_mean_px * nm:8.3f} nm"
    if evidence.leave_out_px is not None:
        points = (evidence.measurements or 0) // 2
        yield f" Global leave-out error ({points} pts):  {evidence.leave_out_px * nm:8.3f} nm"
    if evidence.error_px is not None:
        yield f" Estimated error of the alignment: {evidence.error_px * nm:8.3f} nm, {evidence.error_px:.2f} pixels"


def _counts(alignment: Alignment) -> Iterator[str]:
    evidence = alignment.evidence
    yield f" {int(alignment.included.sum()):3d} of {len(alignment.included)} views"
    if evidence.measurements and evidence.unknowns:
        ratio = evidence.measurements / evidence.unknowns
        yield (
            f"  Ratio of total measured values to all unknowns = {evidence.measurements:5d}/{evidence.unknowns:4d} = {ratio:6.2f}"
        )


def _table(series: TiltSeries, alignment: Alignment) -> Iterator[str]:
    """Yield the table of views: from a transform M that maps aligned to raw, M = mag R(rotation) ((1 + dmag, 0), (skew, 1))."""
    matrices = geometry.invert(alignment.transforms)[..., :2]
    magnification = np.hypot(matrices[:, 0, 1], matrices[:, 1, 1])
    rotation = np.rad2deg(np.arctan2(-matrices[:, 0, 1], matrices[:, 1, 1]))
    residuals = alignment.evidence.residual_per_view_px
    yield _TABLE if residuals is not None else _TABLE.removesuffix("    mean resid")
    for view in np.flatnonzero(alignment.included):
        stretch = geometry.rotation(-rotation[view]) @ matrices[view] / magnification[view]
        tilt = alignment.tilt_deg[view]
        line = f"{view + 1:4d}" + "".join(
            f"{_without_sign_of_zero(value, digits):10.{digits}f}"
            for value, digits in (
                (rotation[view], 1),
                (tilt, 1),
                (tilt - series.tilt_deg[view], 2),
                (magnification[view], 4),
                (stretch[0, 0] - 1, 4),
                (np.rad2deg(stretch[1, 0]), 2),
            )
        )
        if residuals is not None:
            line += f"{np.nan_to_num(residuals[view]) * series.pixel_size_angstrom / 10:10.2f}"
        yield line


def _rotation_at_zero(alignment: Alignment) -> float:
    views = np.flatnonzero(alignment.included)
    flattest = views[np.argmin(np.abs(alignment.tilt_deg[views]))]
    return float(geometry.axis_angles(alignment.transforms[flattest]))


def _without_sign_of_zero(value: float, digits: int) -> float:
    return round(float(value), digits) + 0.0
