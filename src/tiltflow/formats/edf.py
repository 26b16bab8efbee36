"""eTomo's data file, `NAME.edf`: Java properties, one `key=value` a line below a comment with the date.

Of its many keys, programs that import an alignment read few: the name of the data set and the extension of its stack, without which
they give up, the tilt axis angle, and the views that are left out (counted from 1, `2,4-5`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from tiltflow.model import TiltSeries


def parse_edf(text: str) -> dict[str, str]:
    r"""Return the entries by key.

    >>> parse_edf("#Mon Jan 5\nSetup.DatasetName=TS_01\n")
    {'Setup.DatasetName': 'TS_01'}
    """
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.lstrip().startswith(("#", "!")))
    return {key.strip(): value.strip() for key, value in pairs}


def render_edf(entries: Mapping[str, str], heading: str) -> str:
    """Return the text of a data file with a comment line at its head."""
    return "\n".join([f"#{heading}", *(f"{key}={value}" for key, value in sorted(entries.items()))]) + "\n"


def edf_entries(series: TiltSeries, included: Iterable[bool], gold_nm: float = 0.0) -> dict[str, str]:
    """Return the entries that describe a series, with the views that take part in its alignment, `(views,)`."""
    entries = {
        "Setup.DatasetName": series.name,
        "Setup.RawImageStackExt": series.path.suffix.removeprefix("."),
        "Setup.ImageRotationA": f"{series.axis_angle_deg:g}",
        "Setup.PixelSize": f"{series.pixel_size_angstrom / 10:g}",
        "Setup.AxisType": "Single Axis",
        "Setup.ViewType": "Single View",
        "Setup.DataSource": "CCD",
        "Setup.Binning": "1",
        "Setup.AxisA.TiltAngle.Type": "File",
        "Setup.AxisA.ExcludeProjections": view_list(included),
        "Setup.ImageFile.ImageFilenameStyle": "MRC",
    }
    return entries | ({"Setup.FiducialDiameter": f"{gold_nm:g}"} if gold_nm else {})


def view_list(included: Iterable[bool]) -> str:
    """Return the views that do not take part, counted from 1, as IMOD writes lists.

    >>> view_list([True, False, True, False, False])
    '2,4-5'
    """
    left_out = np.flatnonzero(~np.array([*included], bool)) + 1
    runs = np.split(left_out, np.flatnonzero(np.diff(left_out) > 1) + 1)
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs if len(run))
