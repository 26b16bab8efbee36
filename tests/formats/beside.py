"""What lies beside a stack, and what reading a series says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tiltflow.model import TiltSeries

TILTS = np.array([-40.0, -20.0, 0.0, 20.0, 45.0])


def write_mdoc(
    stack: Path, name: str = "B.mrc.mdoc", *, tilts: object = TILTS, axis: float | None = 12.0, **header: object
) -> Path:
    lines = [f"{key} = {value}" for key, value in header.items()]
    if axis is not None:
        lines += ["[T = SerialEM: test]", f"[T =     Tilt axis angle = {axis}, binning = 1]"]
    for z, tilt in enumerate(np.asarray(tilts)):
        lines += [f"[ZValue = {z}]", f"TiltAngle = {tilt}", "ExposureDose = 2.5"]
    path = stack.with_name(name)
    path.write_text("\n".join(lines))
    return path


def messages(series: TiltSeries) -> str:
    return "\n".join(f"{problem.where}: {problem.message}" for problem in series.problems)
