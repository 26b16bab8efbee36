"""The plots of the CTF and of the exposure; their words are in :mod:`tiltflow.report.captions`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tiltflow.record import CtfEntry, ExposureEntry, SeriesRecord
from tiltflow.report.charts import FIRST, INK, SECOND, SOFT, Axes
from tiltflow.report.ctf_checks import describe_hand
from tiltflow.report.plots import WIDE, Plot, make_plot
from tiltflow.report.scales import with_minus

_TILT = "tilt, degrees"
_MOST_RINGS = 2.0
"""Height of the rings of a view in the plot, in units of the rings that were fitted."""


def ctf_plots(record: SeriesRecord) -> Iterator[Plot]:
    """Yield rings over their fit and the defocus of each view, and the exposure of each; those that are known."""
    tilt = record.alignment.tilt_deg if record.alignment is not None else []
    if record.ctf is not None and record.ctf.rings:
        yield _rings(record.ctf, tilt)
    if record.ctf is not None and record.ctf.measured and len(record.ctf.defocus_nm) == len(tilt):
        yield _defocus(record.ctf, tilt)
    if record.exposure is not None and len(record.exposure.before) == len(tilt):
        yield _exposure(record.exposure, tilt)


def _rings(ctf: CtfEntry, tilt: list[float]) -> Plot:
    step = _MOST_RINGS * max(1e-6, *(float(np.abs(rings.fitted).max()) for rings in ctf.rings))

    def paint(axes: Axes) -> None:
        for place, rings in enumerate(ctf.rings):
            shown = np.clip(rings.measured, -0.75 * step, 0.75 * step) + place * step
            axes.plot(rings.frequency_per_nm, shown, SECOND, width=0.9)
            axes.plot(rings.frequency_per_nm, np.array(rings.fitted) + place * step, FIRST, width=1.2)
            found = ctf.spacing_angstrom[rings.view - 1] if rings.view <= len(ctf.spacing_angstrom) else None
            if found:
                axes.plot([10 / found] * 2, [(place - 0.35) * step, (place + 0.35) * step], INK, width=1.2)
        known = [
            (place * step, f"{with_minus(f'{tilt[rings.view - 1]:.0f}')}°")
            for place, rings in enumerate(ctf.rings)
            if rings.view <= len(tilt)
        ]
        axes.set_yticks([place for place, _ in known], [label for _, label in known])
        axes.set(xlabel="spatial frequency, 1/nm", ylabel="tilt")

    return make_plot("rings", paint, f"{ctf.reason[:1].upper()}{ctf.reason[1:]}.", size=(WIDE, 65 + 54 * len(ctf.rings)))


def _defocus(ctf: CtfEntry, tilt: list[float]) -> Plot:
    order = np.argsort(tilt)
    at, defocus = np.array(tilt)[order], np.array(ctf.defocus_nm)[order]

    def paint(axes: Axes) -> None:
        if len(ctf.error_nm) == len(tilt):
            axes.errorbar(at, defocus, np.array(ctf.error_nm)[order], SOFT)
        axes.plot(at, defocus, FIRST, mark="o")
        axes.set(xlabel=_TILT, ylabel="defocus, nm")

    return make_plot("defocus", paint, describe_hand(ctf))


def _exposure(known: ExposureEntry, tilt: list[float]) -> Plot:
    def paint(axes: Axes) -> None:
        taken = np.array(known.order) - 1
        axes.plot(np.array(tilt)[taken], np.array(known.before)[taken], SOFT, width=0.6)
        axes.plot(tilt, known.before, FIRST, mark="o", line=False)
        axes.set(xlabel=_TILT, ylabel="exposure before, e/Å²")

    assumed = " No source tells this order." if known.order_assumed else ""
    return make_plot("exposure", paint, f"From {known.reason}.{assumed}")
