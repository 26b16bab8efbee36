"""Detection of spots in every view of a series."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltflow.align.beads.bead_model import BeadModel
from tiltflow.align.beads.bead_views import BeadViews
from tiltflow.align.beads.detection import LEAST_Z, NO_SPOTS, Spots, find_spots, matched_filter, respond, strong
from tiltflow.align.beads.noise_spectrum import BLANKED, Grid, Pixels, ViewSpectrum, middle_of, noise_spectrum, transform_view
from tiltflow.freed_memory import give_back_freed_memory
from tiltflow.model import Progress
from tiltflow.parallel import map_threads

Floats = NDArray[np.float64]

_ANCHOR_STEP = 3
"""Every third view in order of tilt has its noise spectrum measured; between them only the level changes noticeably."""
_MARGIN = 0.6
"""Distance from the edge of a view, diameters, within which no spot is looked for."""


def scan(series: BeadViews, model: BeadModel, threads: int, progress: Progress) -> tuple[list[Spots], list[Floats]]:
    """Return the spots and the noise spectrum of each view; no spots of the views that take no part.

    The shape of the noise spectrum is measured in every third view in order of tilt, its level in all.
    """
    views = len(series.tilt_deg)
    spots, noises, levels = [NO_SPOTS] * views, [model.noise] * views, np.ones(views)
    anchors = series.ordered[min(_ANCHOR_STEP // 2, len(series.ordered) - 1) :: _ANCHOR_STEP]
    others = np.setdiff1d(series.ordered, anchors)
    bead = series.grid.transform(model.sign * model.profile)

    def scan_anchor(view: int) -> tuple[Spots, Floats, float]:
        return _scan_anchor(series.read(view), bead, model, series.grid)

    def scan_other(view: int) -> tuple[Spots, Floats]:
        nearest = anchors[np.argmin(np.abs(series.tilt_deg[anchors] - series.tilt_deg[view]))]
        spectrum = transform_view(series.read(view), series.grid)
        level = spectrum.fine_power
        if level <= 0 or levels[nearest] <= 0:  # a blank view
            return (NO_SPOTS if level <= 0 else _filtered(spectrum, bead, model.noise, model, series.grid)), model.noise
        noise = noises[nearest] * (level / levels[nearest])
        return _filtered(spectrum, bead, noise, model, series.grid), noise

    give_back_freed_memory()  # large views do not fit between what others have left
    for done, (view, found) in enumerate(zip(anchors, map_threads(scan_anchor, anchors, threads), strict=True), start=1):
        spots[view], noises[view], levels[view] = found
        progress(done / len(series.ordered))
    give_back_freed_memory()
    for done, (view, pair) in enumerate(zip(others, map_threads(scan_other, others, threads), strict=True), start=1):
        spots[view], noises[view] = pair
        progress((len(anchors) + done) / len(series.ordered))
    return spots, noises


def _scan_anchor(image: Pixels, bead: Floats, model: BeadModel, grid: Grid) -> tuple[Spots, Floats, float]:
    """Return the spots of a view, its noise spectrum and level: once with the noise of the bead model, then with the view's own."""
    spectrum, middle = transform_view(image, grid), middle_of(image, grid)
    del image
    beads = strong(_filtered(spectrum, bead, model.noise, model, grid))
    noise = noise_spectrum(middle, grid, beads, BLANKED * model.diameter)
    return _filtered(spectrum, bead, noise, model, grid), noise, spectrum.fine_power


def _filtered(spectrum: ViewSpectrum, bead: Floats, noise: Floats, model: BeadModel, grid: Grid) -> Spots:
    """Return the spots of a view; `bead` is the transform of their profile."""
    filter_ = matched_filter(bead, noise, grid)
    return find_spots(respond(spectrum, filter_, grid), filter_, grid, model.diameter, LEAST_Z, _MARGIN * model.diameter)
