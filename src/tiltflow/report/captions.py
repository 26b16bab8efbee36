"""What each plot shows and what a good one looks like: the text below the plots, in one place."""

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
        "Mean distance between the tracked positions and those of the fitted model, view by view.",
        "low and even, rising slightly at high tilt.",
        "A single tall bar is a view in which the specimen moved or that is blurred; a slope or a wave means that the geometry is wrong.",
    ),
    "vectors": Caption(
        "Residual vectors",
        "Positions of the tracks in the view nearest to zero tilt, and the residual of each of them there.",
        "short arrows in random directions.",
        "Neighbours that point the same way, or a swirl, indicate a specimen that deformed; local alignments may correct it.",
    ),
    "tracks": Caption(
        "Tracks per view",
        "Tracks used in each view, and those that are missing or were rejected there.",
        "the same number in every view, at least eight, with few lost at high tilt.",
        "A view with few tracks is aligned by those few alone.",
    ),
    "correlation": Caption(
        "Correlation of each view",
        "Correlation of each view with those that it was matched with.",
        "a smooth arch, highest at low tilt.",
        "A single dip is a view that is blurred, blocked or misaligned.",
    ),
    "stitching": Caption(
        "Error of the stitching",
        "Standard error of the places of the pieces in each view, both directions together, as their overlaps have it.",
        "below a quarter of a pixel, and even.",
        "A single high point is a view with a blank or missing piece, or whose overlaps show nothing.",
    ),
    "shifts": Caption(
        "Shift of each view",
        "How far each view was moved to align it with the others.",
        "steps from view to view as a stage makes them.",
        "A single view far from its neighbours is probably misaligned. Shifts of a quarter of the field leave little in common.",
    ),
    "tilts": Caption(
        "Refined tilt angles",
        "Difference between the refined and the nominal tilt angles.",
        "within a degree and without jumps; a constant offset is the tilt of the specimen itself.",
        "A slope of several degrees means that the nominal angles are wrong, or that too few tracks determine the angles.",
    ),
    "axis": Caption(
        "Tilt axis angle",
        "Angle of the tilt axis in each view, with the value that was read and that from the data.",
        "both within two degrees of each other, and the same angle in every view to a tenth of a degree or two.",
        "Where they disagree and the data are conclusive, the angle from the data is used.",
    ),
    "texture": Caption(
        "Position of the specimen in z",
        "Texture of the XY slices of the volume.",
        "a plateau, the specimen, that falls to a lower level on both sides well inside the volume.",
        "A plateau that touches an edge is a specimen that was cut off: reconstruct a thicker volume. No plateau: a specimen of low "
        "contrast, or a misaligned volume.",
    ),
    "rings": Caption(
        "Rings of the contrast transfer",
        "Power of some views over its smooth part (orange), and the contrast transfer function that was fitted (blue); the mark is the "
        "finest spacing to which both agree in a view, and the one below the plot its median: the smaller, the finer the detail that the "
        "correction is known to hold for; two pixels are the least.",
        "orange and blue rise and fall together, for two rings or more, at high tilts too.",
        "A blue curve without rings is a defocus that nothing supports; coarse pixels show only one ring.",
    ),
    "defocus": Caption(
        "Defocus of each view",
        "Defocus on the tilt axis, with its standard error.",
        "a line that changes slowly, by a few hundred nm at most.",
        "A slope or a bend is a specimen that is not at the eucentric height; a single view far from its neighbours was focused anew.",
    ),
    "exposure": Caption(
        "Exposure before each view",
        "What the specimen had received before each view; the line goes through the views in the order in which they were taken.",
        "the scheme of your acquisition: a fan from low tilts for dose-symmetric series, two slopes for bidirectional ones.",
        "Another order than yours weights the wrong views: state the scheme, or give a file of exposures.",
    ),
    "spectrum": Caption(
        "Power spectrum",
        "Rotationally averaged power of XY slices through the specimen.",
        "a smooth curve without peaks, which falls or has a broad hill where the filter of the reconstruction amplifies noise.",
        "Sharp peaks are a fixed pattern of the camera or the scan; oscillations are the contrast transfer function, expected in cryo.",
    ),
    "halves": Caption(
        "Fourier shell correlation of half volumes",
        "Correlation of two volumes, each reconstructed from half of the data.",
        "near 1 at low frequency, then a fall; beyond the frequency where it crosses 0.143, detail is lost in noise.",
        "An early fall means few electrons or a poor alignment; a tail that stays high is a pattern common to both halves.",
    ),
    "histogram": Caption(
        "Grey values",
        "Histogram of the volume, with the grey values that the pictures show as black and white.",
        "one peak with the window around it.",
        "A long tail is gold or contamination; a spike at an end is a part that is clipped or empty.",
    ),
    "time": Caption(
        "Time of each stage",
        "Wall time of each stage, the longest first.",
        "alignment and reconstruction dominate; the products cost little.",
        "",
    ),
}
"""Every plot by its name."""
