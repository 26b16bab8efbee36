"""What each plot shows and what a good one looks like: all the prose below the plots, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caption:
    """The words around a plot: its title, what it shows, what good looks like, and what else may be seen."""

    title: str
    shows: str
    good: str
    otherwise: str


CAPTIONS: Mapping[str, Caption] = {
    "residuals": Caption(
        "Residual of each view",
        "How far the fit misses the tracked points, view by view.",
        "all bars alike and low, a little higher at high tilt.",
        "One tall bar is a view that moved or is blurred; a slope or a wave says that the geometry is wrong.",
    ),
    "vectors": Caption(
        "Residuals over the field",
        "Where the tracked points are on the view nearest to zero tilt, and how far the fit misses each of them there.",
        "short arrows in all directions.",
        "Neighbours that point the same way, or a swirl, tell of a specimen that warped, which local alignments may mend.",
    ),
    "tracks": Caption(
        "Tracks found and lost",
        "Tracks that each view was fitted with, and those that are missing or were rejected there.",
        "the same number in every view, eight at least, and few lost at high tilt.",
        "A view with few tracks is placed by those few alone.",
    ),
    "correlation": Caption(
        "Agreement of each view",
        "How well each view agrees with those it was matched with.",
        "a smooth arch, highest at low tilt.",
        "A single dip is a view that is blurred, blocked or misplaced.",
    ),
    "shifts": Caption(
        "Shift of each view",
        "How far each view was moved to fit the others.",
        "steps from view to view as a stage makes them.",
        "A lone view far from its neighbours is probably misplaced. Shifts of a quarter of the field leave little for all to see.",
    ),
    "tilts": Caption(
        "Refined tilt angles",
        "By how much the alignment corrected the tilt angles.",
        "within a degree and without jumps; a constant is the tilt of the specimen itself.",
        "A slope of several degrees says that the angles are wrong, or that too few tracks let the fit wander.",
    ),
    "axis": Caption(
        "Tilt axis",
        "The angle of the tilt axis in the plane of each image, and what header and data say it is.",
        "header and data within two degrees of each other, and the same angle in every view to a tenth or two.",
        "Where they differ and the data are clear, the data are believed.",
    ),
    "texture": Caption(
        "Where the specimen lies",
        "Texture of the sections of the volume.",
        "a plateau, the specimen, that falls to a lower level on both sides well inside the volume.",
        "A plateau that touches an edge is a specimen that was cut: ask for a greater thickness. No plateau: a specimen of little "
        "contrast, or a volume out of alignment.",
    ),
    "spectrum": Caption(
        "Power spectrum",
        "Power in sections through the specimen, from coarse to fine detail.",
        "a smooth curve without peaks: it falls, or makes a broad hill where the filter of the reconstruction lifts noise.",
        "Sharp peaks are a fixed pattern of the camera or the scan; waves are the transfer function of the microscope, expected in "
        "cryo.",
    ),
    "halves": Caption(
        "Agreement of two half volumes",
        "Fourier shell correlation of two volumes, each from every other view.",
        "near 1 for coarse detail, then a fall; where it crosses 0.143 detail is lost in the noise.",
        "Half the views sample half as finely, so that the whole volume is better than this. A fall that comes early is few electrons "
        "or a poor alignment; a tail that stays high is a pattern that both halves share.",
    ),
    "histogram": Caption(
        "Grey values",
        "Grey values of the volume, and those that the pictures show as black and white.",
        "one hill with the window around it.",
        "A long tail is gold or contamination; a spike at an end is a part that is clipped or empty.",
    ),
    "time": Caption(
        "Time of each stage",
        "Where the time went, the longest first.",
        "alignment and reconstruction lead; products cost little.",
        "",
    ),
}
"""Every plot by its name."""
