"""The plot of how well the pieces of a montage are placed; its words are in :mod:`tiltflow.report.captions`."""

from __future__ import annotations

from collections.abc import Iterator

from tiltflow.record import SeriesRecord
from tiltflow.report.charts import FIRST, Axes
from tiltflow.report.plots import Plot, make_plot


def montage_plots(record: SeriesRecord) -> Iterator[Plot]:
    """Yield the error of the stitching of each view."""
    entry, found = record.montage, record.alignment
    if entry is None or found is None or len(entry.error_per_view_px) != len(found.tilt_deg):
        return
    tilt, error = found.tilt_deg, entry.error_per_view_px

    def paint(axes: Axes) -> None:
        axes.plot(tilt, error, FIRST, mark="o", line=False)
        axes.set(xlabel="tilt, degrees", ylabel="error of pieces, px", ylim=(0.0, 1.1 * max(error)))

    yield make_plot("stitching", paint)
