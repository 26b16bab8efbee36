"""The checks of the CTF and of the exposures, and the hand of the defocus gradient in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

import numpy as np

from tiltflow.record import AlignmentEntry, CtfEntry, SeriesRecord
from tiltflow.report.check import Check, falling, rising, told
from tiltflow.report.trend import beside_parabola
from tiltflow.work import Quantity, Thresholds, Trust

_ORDER_KNOWN = "good where the order is known"


def ctf_checks(record: SeriesRecord, found: AlignmentEntry, limits: Thresholds) -> Iterator[Check]:
    """Yield how well the CTF is known that was corrected, or why it was not."""
    ctf = record.ctf
    if ctf is None:
        return
    if not ctf.applied:
        yield told("CTF", f"the CTF is not corrected: {ctf.reason}", left_out=True)
        return
    defocus = Quantity(round(median(ctf.defocus_nm), 1), "nm")
    yield _hand(ctf)
    if not ctf.measured:
        yield told("defocus", ctf.reason, defocus)
        yield from (Check("given defocus", Trust.DOUBTFUL, doubt) for doubt in ctf.doubts)
        return
    score = median(ctf.score)
    text = f"good from {limits.ctf_score_good:g}, poor below {limits.ctf_score_poor:g}"
    said = f"the rings of the CTF correlate with their fit by {score:.2f}; {ctf.reason}"
    yield Check("CTF score", rising(score, limits.ctf_score_good, limits.ctf_score_poor), said, text, Quantity(round(score, 3)))
    scatter = defocus_scatter_nm(ctf.defocus_nm, found.tilt_deg, found.included)
    if scatter is not None:
        level = falling(scatter, limits.defocus_scatter_good_nm, limits.defocus_scatter_poor_nm)
        text = f"good up to {limits.defocus_scatter_good_nm:g} nm, poor above {limits.defocus_scatter_poor_nm:g} nm"
        said = f"the defocus of the views, {defocus.value:.0f} nm, scatters by {scatter:.0f} nm"
        yield Check("defocus scatter", level, said, text, Quantity(round(scatter, 1), "nm"))


def defocus_scatter_nm(defocus_nm: Sequence[float], tilt_deg: Sequence[float], included: Sequence[bool]) -> float | None:
    """Return the root mean square of the defocus of the views that are used about a parabola over their tilts; None for few."""
    left = beside_parabola(defocus_nm, tilt_deg, included)
    return None if left is None else float(np.sqrt(np.mean(left**2)))


def _hand(ctf: CtfEntry) -> Check:
    """Return to which side the defocus rises; doubtful where the images contradict what was stated."""
    said = describe_hand(ctf).rstrip(".")
    said = said[:1].lower() + said[1:]
    if ctf.hand_measured is not None and ctf.hand not in (None, ctf.hand_measured):
        return Check("hand", Trust.DOUBTFUL, said, "good where the images agree with what was stated")
    return told("hand", said)


def exposure_checks(record: SeriesRecord) -> Iterator[Check]:
    """Yield whether frequencies were weighted by exposure, and in which order the views are believed to have been taken."""
    known = record.exposure
    if known is None:
        return
    if not known.applied:
        yield told("exposure", f"frequencies are not weighted by exposure: {known.reason}", left_out=True)
    elif known.doubt:
        yield Check("exposure", Trust.DOUBTFUL, f"frequencies are weighted by exposure, and {known.doubt}", _ORDER_KNOWN)
    elif known.order_assumed:
        said = f"frequencies are weighted by exposure in an order of the views that nothing tells: {known.reason}"
        yield Check("exposure", Trust.DOUBTFUL, said, _ORDER_KNOWN)
    else:
        total = max(before + each for before, each in zip(known.before, known.each, strict=True))
        said = f"frequencies are weighted by exposure, up to {total:.0f} electrons per Å²; {known.reason}"
        yield told("exposure", said, Quantity(round(total, 2), "e/angstrom^2"))


def describe_hand(ctf: CtfEntry) -> str:
    """Return which way the defocus runs, and how sure that is, in a sentence."""
    if ctf.hand_measured is None:
        unknown = "The images do not decide" if ctf.measured else "It was not measured"
        used = {1: "to the right", -1: "to the left"}.get(ctf.hand or 0)
        followed = (
            f"{'as stated, ' if ctf.measured else ''}it is taken to rise {used}"
            if used
            else "it is taken to be the same all over a view"
        )
        return f"{unknown} to which side the defocus rises at positive tilts; {followed}."
    side = "right" if ctf.hand_measured > 0 else "left"
    slope = f": gradient {ctf.gradient:.2f} ± {ctf.gradient_error:.2f}" if ctf.gradient is not None and ctf.gradient_error else ""
    other = ", against what was stated" if ctf.hand not in (None, ctf.hand_measured) else ""
    said = f"With the tilts as read, the defocus rises to the {side} at positive tilts (hand {ctf.hand_measured:+d}{slope}){other}"
    if ctf.hand_measured > 0:
        return f"{said}."
    return (
        f"{said}; IMOD calls that InvertTiltAngles = 1: the tilts have the other sign than in its convention, or the axis is turned by "
        "180°, and only in the first case is the tomogram mirrored."
    )
