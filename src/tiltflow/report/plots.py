"""The plots of a series' page; their words are in :mod:`tiltflow.report.captions`.

What the record has nothing to draw for is left out.  No text of the user comes near a drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow.record import AlignmentEntry, HalvesEntry, SeriesRecord, VolumeEntry
from tiltflow.report.captions import CAPTIONS, Caption
from tiltflow.report.charts import BAD, FAINT, FIRST, GOOD, INK, SECOND, THIRD, Axes, draw
from tiltflow.report.checks import residual_limits
from tiltflow.report.facts import axis_is_assumed, nominal_tilts
from tiltflow.report.lengths import pixel_size_nm
from tiltflow.report.pictures import small_view
from tiltflow.report.specimen import Specimen, specimen_of
from tiltflow.work import Thresholds

Floats = NDArray[np.float64]

_TILT = "tilt, degrees"
WIDE = 400.0
"""Of a plot, units of the drawing."""
_SMALLEST_BAR_S = 0.05
_MOST_STAGES = 24
_ON_PICTURE = ("#ffd23f", "#ff5d5d")


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot: its name, the drawing, its words, and the numbers of this series that belong to them."""

    name: str
    svg: str
    remark: str = ""

    @property
    def caption(self) -> Caption:
        """What it shows, and what good looks like."""
        return CAPTIONS[self.name]


def alignment_plots(record: SeriesRecord, thresholds: Thresholds, view: Path | None = None) -> Iterator[Plot]:
    """Yield the plots that tell whether the alignment is right; `view` is the picture of the view nearest to zero tilt."""
    found, tilt = record.alignment, nominal_tilts(record)
    if found is None or tilt is None or len(found.included) != len(tilt):
        return
    views = _Views(found, tilt, thresholds, pixel_size_nm(record), axis_is_assumed(record))
    field = (_number(record, "width"), _number(record, "height"))
    first = (_residuals(views), _vectors(found, field, view))
    for plot in (*first, *(make(views) for make in (_tracks, _correlation, _shifts, _refined_tilts, _axis))):
        if plot is not None:
            yield plot


def volume_plots(record: SeriesRecord) -> Iterator[Plot]:
    """Yield the plots of the volume."""
    if record.volume is not None:
        yield _texture(record.volume, specimen_of(record))
        yield _spectrum(record.volume)
        yield _histogram(record.volume)
    if record.halves is not None:
        yield _halves(record.halves)


def time_plot(record: SeriesRecord) -> Plot | None:
    """Return where the time went."""
    stages = [(stage.name, stage.seconds or 0.0) for stage in record.stages if (stage.seconds or 0.0) >= _SMALLEST_BAR_S]
    stages = sorted(stages, key=lambda stage: -stage[1])[:_MOST_STAGES]
    if not stages:
        return None

    def paint(axes: Axes) -> None:
        places = np.arange(len(stages))[::-1]
        axes.barh(places, [seconds for _, seconds in stages], 0.7, FIRST)
        axes.set_yticks(places, [name for name, _ in stages])
        axes.set(xlabel="seconds", ylim=(-0.6, len(stages) - 0.4))
        axes.grid(x=True, y=False)

    return make_plot("time", paint, size=(WIDE, 44 + 16 * len(stages)))


@dataclass(frozen=True, slots=True, eq=False)
class _Views:
    """What the plots over views draw on."""

    found: AlignmentEntry
    tilt: Floats
    thresholds: Thresholds
    pixel_nm: float | None
    axis_assumed: bool

    @property
    def used(self) -> NDArray[np.bool_]:
        return np.asarray(self.found.included, bool)

    @property
    def order(self) -> NDArray[np.int64]:
        """Views that are used, by tilt."""
        order = np.argsort(self.tilt, kind="stable")
        return np.asarray(order[self.used[order]])

    @property
    def step(self) -> float:
        """The typical step between tilts."""
        steps = np.diff(np.sort(self.tilt))
        steps = steps[steps > 1e-3]
        return float(np.median(steps)) if len(steps) else 1.0

    def values(self, numbers: Sequence[float | None] | None) -> Floats | None:
        """Return one number a view, NaN where there is none; None if there is no such list or nothing in it."""
        if numbers is None or len(numbers) != len(self.tilt):
            return None
        values = np.array([np.nan if number is None else number for number in numbers], float)
        return None if np.isnan(values).all() else values

    def finish(self, axes: Axes, ylabel: str, *, least_height: float = 0.0) -> None:
        """Name the axes, and mark the views that are left out."""
        axes.axvline(self.tilt[~self.used], BAD, dash="dotted")
        axes.set(xlabel=_TILT, ylabel=ylabel, least_height=least_height)

    @property
    def remark(self) -> str:
        return "" if self.used.all() else "Dotted lines: views left out."


def _residuals(views: _Views) -> Plot | None:
    values = views.values(views.found.residual_per_view_px)
    if values is None:
        return None
    (good, _), _ = residual_limits(views.found, views.thresholds)

    def paint(axes: Axes) -> None:
        there = views.order[~np.isnan(values[views.order])]
        axes.bar(views.tilt[there], values[there], 0.7 * views.step, FIRST)
        axes.axhline(good, GOOD, dash="dashed", width=1.4, label=f"good up to {good:g} px on average")
        views.finish(axes, "mean residual, px")

    rejected = views.found.positions_rejected
    over = f"Over the {views.found.positions_used} positions that carry weight; {rejected} were rejected." if rejected else ""
    return make_plot("residuals", paint, " ".join(filter(None, [over, views.remark])))


def _tracks(views: _Views) -> Plot | None:
    kept, lost = views.values(views.found.positions_per_view), views.values(views.found.positions_lost_per_view)
    if kept is None:
        return None
    missing = np.zeros_like(kept) if lost is None else lost

    def paint(axes: Axes) -> None:
        axes.bar(views.tilt, kept, 0.8 * views.step, FIRST, label="used")
        axes.bar(views.tilt, missing, 0.8 * views.step, FAINT, bottom=kept, label="lost or rejected")
        views.finish(axes, "tracks")

    return make_plot("tracks", paint, views.remark)


def _correlation(views: _Views) -> Plot | None:
    values = views.values(views.found.correlation_per_view)
    if values is None:
        return None

    def paint(axes: Axes) -> None:
        axes.plot(views.tilt[views.order], values[views.order], FIRST, mark="o")
        views.finish(axes, "correlation")

    return make_plot("correlation", paint, views.remark)


def _shifts(views: _Views) -> Plot | None:
    if len(views.found.shift_px) != len(views.tilt):
        return None
    shifts = np.asarray(views.found.shift_px, float)

    def paint(axes: Axes) -> None:
        axes.plot(views.tilt[views.order], shifts[views.order, 0], FIRST, mark="o", label="x, across the axis")
        axes.plot(views.tilt[views.order], shifts[views.order, 1], SECOND, mark="s", label="y, along the axis")
        views.finish(axes, "shift, px")

    size = f"One pixel is {views.pixel_nm:.3g} nm. " if views.pixel_nm else ""
    return make_plot("shifts", paint, size + views.remark)


def _refined_tilts(views: _Views) -> Plot | None:
    if len(views.found.tilt_deg) != len(views.tilt):
        return None
    change = np.asarray(views.found.tilt_deg, float) - views.tilt
    if not np.any(np.abs(change) > 1e-3):
        return None

    def paint(axes: Axes) -> None:
        axes.axhline(0, INK, width=0.8)
        axes.plot(views.tilt[views.order], change[views.order], FIRST, mark="o")
        views.finish(axes, "refined − nominal tilt, degrees")

    return make_plot("tilts", paint, views.remark)


def _axis(views: _Views) -> Plot | None:
    values = views.values(views.found.rotation_deg)
    if values is None:
        return None
    read, found, error = (
        None if views.axis_assumed else views.found.axis_angle_nominal_deg,
        views.found.axis_angle_from_data_deg,
        views.found.axis_angle_error_deg,
    )

    def paint(axes: Axes) -> None:
        if found is not None and error is not None:
            axes.axhspan(found - error, found + error, SECOND)
        axes.plot(views.tilt[views.order], values[views.order], FIRST, mark="o", label="used")
        if read is not None:
            axes.axhline(read, INK, dash="dashed", label="as read")
        if found is not None:
            axes.axhline(found, SECOND, label="from the data")
        views.finish(axes, "tilt axis angle, degrees", least_height=1.0)

    said = [f"As read: {read:.2f}°."] if read is not None else []
    if found is not None:
        said.append(f"Data: {found:.2f}°" + (f" ± {error:.2f}°." if error is not None else "."))
    return make_plot("axis", paint, " ".join([*said, views.remark]))


def _vectors(found: AlignmentEntry, field: tuple[float, float], view: Path | None) -> Plot | None:
    width, height = field
    vectors = np.asarray(found.residual_vectors_px or np.empty((0, 4)), float)
    if not len(vectors) or not width or not height:
        return None
    x, y, dx, dy = vectors.T
    largest = float(np.hypot(dx, dy).max())
    scale = 0.12 * max(width, height) / largest if largest > 0 else 1.0
    behind = small_view(view) if view is not None else None
    arrows, points = (FIRST, SECOND) if behind is None else _ON_PICTURE

    def paint(axes: Axes) -> None:
        if behind is not None:
            axes.imshow(behind, (0, width, 0, height))
            axes.grid(x=False, y=False)
        axes.quiver(x, y, dx * scale, dy * scale, arrows)
        axes.plot(x, y, points, mark="o", line=False)
        axes.set(xlabel="x, px", ylabel="y, px", xlim=(0, width), ylim=(0, height), equal=True, box=True)

    remark = f"Arrows are drawn {scale:.0f} times as long as the residuals; the longest residual is {largest:.2f} px."
    return make_plot("vectors", paint, remark, size=(WIDE, 43 + 266 * min(height / width, 1.0)))


def _texture(seen: VolumeEntry, specimen: Specimen | None) -> Plot:
    def paint(axes: Axes) -> None:
        if specimen is not None:
            axes.axvspan(specimen.low_nm, specimen.high_nm, SECOND, label="specimen")
        axes.plot(seen.texture_z_nm, seen.texture, FIRST)
        axes.set(xlabel="z from the middle of the volume, nm", ylabel="texture", ylim=(0, None))

    return make_plot("texture", paint, f"Specimen: {specimen.thickness} thick, by {specimen.source}." if specimen else "")


def _spectrum(seen: VolumeEntry) -> Plot:
    power = np.asarray(seen.spectrum_power, float)
    decades = np.log10(np.maximum(power, 1e-12 * power.max() or 1.0))

    def paint(axes: Axes) -> None:
        axes.plot(seen.spectrum_per_nm, decades, FIRST)
        axes.set(xlabel="spatial frequency, 1/nm", ylabel="power, powers of ten", xlim=(0, None))

    return make_plot("spectrum", paint, f"The right edge corresponds to two voxels, {2 * seen.voxel_nm:.3g} nm.")


def _histogram(seen: VolumeEntry) -> Plot:
    edges = np.linspace(seen.histogram_low, seen.histogram_high, len(seen.histogram_counts) + 1)
    share = 100 * np.asarray(seen.histogram_counts) / max(1, sum(seen.histogram_counts))

    def paint(axes: Axes) -> None:
        axes.stairs(share, edges, FIRST)
        axes.axvline([seen.window_low, seen.window_high], THIRD)
        axes.note_above("black", seen.window_low, "end")
        axes.note_above("white", seen.window_high, "start")
        axes.set(xlabel="grey value", ylabel="voxels, %")

    return make_plot("histogram", paint)


_HALVES = {
    "views": "Each half is made of every other view and has half the angular sampling, so that the whole volume is better than this.",
    "frames": "The halves are made of the even and of the odd frames of every view: they have all tilts and half of the electrons each.",
}


def _halves(seen: HalvesEntry) -> Plot:
    def paint(axes: Axes) -> None:
        axes.axhline(0, INK, width=0.8)
        for level, color in ((0.5, SECOND), (0.143, THIRD)):
            axes.axhline(level, color, dash="dashed", label=f"{level:g}")
        axes.plot(seen.frequency_per_nm, seen.correlation, FIRST)
        axes.set(xlabel="spatial frequency, 1/nm", ylabel="correlation", xlim=(0, None), ylim=(min(-0.1, *seen.correlation), 1.05))

    found = [
        f"{detail:.3g} nm at {level}"
        for detail, level in ((seen.resolution_0500_nm, "0.5"), (seen.resolution_0143_nm, "0.143"))
        if detail is not None
    ]
    resolution = (
        f"Resolution: {' and '.join(found)}."
        if found
        else "The correlation never falls to 0.5, so that no resolution can be given."
    )
    return make_plot("halves", paint, f"{_HALVES[seen.of]} {resolution}")


def make_plot(name: str, paint: Callable[[Axes], None], remark: str = "", *, size: tuple[float, float] = (WIDE, 194.0)) -> Plot:
    """Return a plot whose words are those of its name."""
    return Plot(name, draw(CAPTIONS[name].shows, paint, size=size), remark.strip())


def _number(record: SeriesRecord, name: str) -> float:
    known = record.input.get(name)
    return float(known.value) if known is not None and isinstance(known.value, (int, float)) else 0.0
