"""The checks behind a verdict: each compares one number of the record with two limits of :class:`tiltflow.work.Thresholds`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import median

import numpy as np

from tiltflow.record import AlignmentEntry, SeriesRecord, VolumeEntry
from tiltflow.report.check import Check, falling, rising, told
from tiltflow.report.ctf_checks import ctf_checks, exposure_checks
from tiltflow.report.facts import axis_is_assumed, nominal_tilts
from tiltflow.report.lengths import length, pixel_size_nm
from tiltflow.report.montage_checks import montage_checks
from tiltflow.report.specimen import Specimen, specimen_of
from tiltflow.report.tilts import coverage_of
from tiltflow.report.trend import beside_parabola
from tiltflow.work import Quantity, Thresholds, Trust

_ORDER = (Trust.GOOD, Trust.DOUBTFUL, Trust.POOR)
_HOW = {"coarse": "a coarse alignment only", "given": "an alignment that was given"}
_SAME_AXIS_DEG, _OTHER_AXIS_DEG = 2.0, 4.0
"""Difference of two axes that is an error of either, and how much more it must be to another axis: the search of the axis is good to 1.2
degrees without gold.  Where the axis is within 2 degrees of x or y, its sign cannot be told."""
_PATCH_DRIFT = 2.0
"""By what limits of leave-out error and residual are wider for patches.  Of simulated series without gold that are aligned to 0.2 to
0.3 px both are 0.6 to 1 px, mostly drift of the patches; with gold in the patches they are 0.2 px (`benchmarks/verdicts.py`)."""
_MOST_PITCH_ERROR_DEG = 2.0
"""Error of the x-axis tilt up to which levelling is an improvement: most sections lie within it of their grid's plane."""
_MOST_TILT_SCATTER_DEG = 1.0
"""Scatter of refined about nominal tilts up to which they may both be right.  Stages are reproducible to a tenth of a degree, and sound
alignments of gold and of patches scatter by 0.05 to 0.16; nominal tilts that are wrong by up to 2 degrees at random scatter by 1.15."""
_FEW_GREYS, _TOO_FEW_GREYS = 10.0, 2.0
"""Standard deviation of a volume of whole numbers, in grey values, below which there are few of them, and below which their rounding adds
more than 2 % to its variance, 1/12."""
_FULL = 0.75
"""Share of a volume above which no level of empty volume is seen beside the specimen.  Simulated sections that end inside their volumes
fill up to 0.60 of it, real series whose volumes end in the specimen 0.78 to 0.82."""
_SAME_TILT_DEG = 1e-3
"""Tilts that differ by less, but for an offset, are the nominal ones."""
_WITHHELD = ("patches", "projection")
"""Methods that always estimate their error, so that they withhold it where there is none."""
_TRACKING = {"gold": "beads", "patches": "patches"}


def examine(record: SeriesRecord, thresholds: Thresholds) -> tuple[Check, ...]:
    """Return every check of a series that has a result, the worst first; at least one."""
    return tuple(sorted(_checks(record, thresholds), key=lambda check: (-_ORDER.index(check.level), not check.judged)))


def _checks(record: SeriesRecord, thresholds: Thresholds) -> tuple[Check, ...]:
    found = record.alignment
    if found is None:
        return (Check("alignment", Trust.DOUBTFUL, "the engine reports nothing about its alignment, so its quality is unknown"),)
    pixel_nm = pixel_size_nm(record)
    withheld = found.method in _WITHHELD and found.error_px is None and bool(found.trust_warnings)
    figures = tuple(alignment_checks(found, thresholds, pixel_nm))
    # Where views may be anywhere the figures of the fit say nothing to a reader; one that is poor even so makes the doubt as strong.
    doubt = max((Trust.DOUBTFUL, *(check.level for check in figures if withheld)), key=_ORDER.index)
    warnings = tuple(Check("trust warning", doubt, warning) for warning in found.trust_warnings)
    return (
        *(warnings if withheld else ()),
        *_unmeasured(record, found, thresholds),
        *_input(record, found),
        *(() if withheld else (*figures, *warnings)),
        *_axis(record, found, thresholds),
        *_support(found, thresholds),
        *_tilts(found, thresholds),
        *_refined_tilts(record, found),
        *_pitch(found),
        *montage_checks(record, thresholds),
        *ctf_checks(record, found, thresholds),
        *exposure_checks(record),
        *_volume(record, thresholds),
    )


def _unmeasured(record: SeriesRecord, found: AlignmentEntry, limits: Thresholds) -> Iterator[Check]:
    """Yield the check of an alignment whose error is unknown: doubtful, and poor if volume or tilt axis speak against it."""
    if found.error_px is not None or found.leave_out_px is not None:
        return
    off = axis_off_deg(record, found)
    how = _HOW.get(found.method, f"an alignment by {found.method}")
    said, level = f"this is {how}, without an estimate of its error", Trust.DOUBTFUL
    if _is_empty(record):
        said, level = f"{said}; no specimen stands out in the volume", Trust.POOR
    elif off is not None and off > limits.axis_good_deg:
        said, level = f"{said}; its tilt axis disagrees with the one that was read", Trust.POOR
    yield Check("alignment", level, said)


def _input(record: SeriesRecord, found: AlignmentEntry) -> Iterator[Check]:
    """Yield what nobody knows of the input; the sign of a tilt axis is known where the images agree with it and not with its opposite."""
    for name, value in record.input.items():
        if value.doubt and not (name == "axis_angle" and _agrees_but_for(1, record, found)):
            yield Check("input", Trust.DOUBTFUL, value.doubt)


def axis_off_deg(record: SeriesRecord, found: AlignmentEntry) -> float | None:
    """Return the difference of the tilt axis angle from the one that was read, 0 to 90 degrees; None if either is unknown or assumed."""
    return _off_deg(1, record, found)


def _off_deg(sign: int, record: SeriesRecord, found: AlignmentEntry) -> float | None:
    """Return the difference from the angle that was read, or from its opposite."""
    known = record.input.get("axis_angle")
    used = [angle for angle, included in zip(found.rotation_deg, found.included, strict=False) if included]
    if known is None or not isinstance(known.value, (int, float)) or axis_is_assumed(record) or not used:
        return None
    return abs((median(used) - sign * known.value + 90) % 180 - 90)


def _agrees_but_for(sign: int, record: SeriesRecord, found: AlignmentEntry) -> bool:
    """Return whether the tilt axis agrees with that which was read, or for -1 with its opposite, and clearly not with the other."""
    off, other = _off_deg(sign, record, found), _off_deg(-sign, record, found)
    return off is not None and other is not None and off <= _SAME_AXIS_DEG and other >= off + _OTHER_AXIS_DEG


def _axis(record: SeriesRecord, found: AlignmentEntry, limits: Thresholds) -> Iterator[Check]:
    """Yield whether the tilt axis agrees with the one that was read; where it does not and the volume is empty, the alignment is lost."""
    off = axis_off_deg(record, found)
    if off is None:
        return
    level = Trust.GOOD if off <= limits.axis_good_deg else Trust.POOR if _is_empty(record) else Trust.DOUBTFUL
    source, _, _ = record.input["axis_angle"].source.partition(",")
    said = f"the tilt axis angle differs by {off:.1f}° from that which was read ({source})"
    if _agrees_but_for(-1, record, found):
        level = Trust.DOUBTFUL
        opposite = -record.input["axis_angle"].value
        said += f", and has its opposite sign: the tomogram may be mirrored; if so, give setupset.copyarg.rotation = {opposite:g}"
    elif level is Trust.POOR:
        said += ", and the volume is empty"
    text = f"good up to {limits.axis_good_deg:g}°, poor above when the volume is empty"
    yield Check("tilt axis difference", level, said, text, Quantity(round(off, 2), "deg"))


def _is_empty(record: SeriesRecord) -> bool:
    """Return whether the volume was looked at, and there is no specimen in it."""
    return record.volume is not None and record.volume.contrast is not None and specimen_of(record) is None


def alignment_checks(found: AlignmentEntry, limits: Thresholds, pixel_nm: float | None) -> Iterator[Check]:
    """Yield what the figures of an alignment say: its error, leave-out error and residual.

    A patch of texture drifts as the views turn, by more than the alignment is off: where the error is estimated, which allows for the
    drift, wider limits apply to the distances of patches.
    """
    wider = _wider(found)
    distances = []
    if found.leave_out_px is not None:
        good, poor = (limits.leave_out_good_px, limits.leave_out_good_nm), (limits.leave_out_poor_px, limits.leave_out_poor_nm)
        good, poor = _widened(good, wider), _widened(poor, wider)
        distances += [_length("leave-out error", found.leave_out_px, good, poor, pixel_nm, "the leave-out error is {}")]
    if found.residual_mean_px is not None:
        good, poor = residual_limits(found, limits)
        distances += [_length("residual", found.residual_mean_px, good, poor, pixel_nm, "the mean residual is {}")]
    if found.error_px is not None:
        good, poor = (limits.error_good_px, limits.error_good_nm), (limits.error_poor_px, limits.error_poor_nm)
        error = _length("alignment error", found.error_px, good, poor, pixel_nm, "the estimated alignment error is {}")
        against = [each.name for each in distances if each.level is Trust.POOR]
        if against and error.level is Trust.GOOD:
            said = f"{error.finding}, which the {' and the '.join(against)} {'contradicts' if len(against) == 1 else 'contradict'}"
            error = replace(error, level=Trust.DOUBTFUL, finding=said)
        yield error
    yield from distances


def residual_limits(found: AlignmentEntry, limits: Thresholds) -> tuple[tuple[float, float | None], tuple[float, float | None]]:
    """Return up to what a mean residual is good, and above what poor, each in pixels and nanometres."""
    wider = _wider(found)
    good, poor = (limits.residual_good_px, limits.residual_good_nm), (limits.residual_poor_px, limits.residual_poor_nm)
    return _widened(good, wider), _widened(poor, wider)


def _wider(found: AlignmentEntry) -> float:
    return _PATCH_DRIFT if found.method == "patches" and found.error_px is not None else 1.0


def _widened(limit: tuple[float, float | None], factor: float) -> tuple[float, float | None]:
    """Return a limit in pixels and nanometres times a factor."""
    limit_px, limit_nm = limit
    return limit_px * factor, None if limit_nm is None else limit_nm * factor


def _length(
    name: str,
    value_px: float,
    good: tuple[float, float | None],
    poor: tuple[float, float | None],
    pixel_nm: float | None,
    sentence: str,
) -> Check:
    """Compare a length with limits in pixels and, where they are given, in nanometres."""
    value_nm = value_px * pixel_nm if pixel_nm else None
    level = Trust.GOOD
    if _beyond(value_px, value_nm, poor):
        level = Trust.POOR
    elif _beyond(value_px, value_nm, good):
        level = Trust.DOUBTFUL
    text = f"good up to {_limit(good)}, poor above {_limit(poor)}"
    return Check(name, level, sentence.format(length(value_px, pixel_nm)), text, Quantity(round(value_px, 4), "px"))


def _beyond(value_px: float, value_nm: float | None, limit: tuple[float, float | None]) -> bool:
    limit_px, limit_nm = limit
    return value_px > limit_px or (limit_nm is not None and value_nm is not None and value_nm > limit_nm)


def _limit(limit: tuple[float, float | None]) -> str:
    return f"{limit[0]:g} px" + (f" and {limit[1]:g} nm" if limit[1] is not None else "")


def _support(found: AlignmentEntry, limits: Thresholds) -> Iterator[Check]:
    """Yield how many tracks and views the alignment is based on."""
    if found.tracks_used is not None:
        kind = _TRACKING.get(found.method, "tracks")
        level = rising(found.tracks_used, limits.tracks_good, limits.tracks_poor)
        text = f"good from {limits.tracks_good}, poor below {limits.tracks_poor}"
        yield Check("tracks", level, f"the alignment is based on {found.tracks_used} {kind}", text, Quantity(found.tracks_used))
    views = len(found.included)
    if views:
        out = views - sum(found.included)
        share = out / views
        level = falling(share, limits.excluded_good, limits.excluded_poor)
        text = f"good up to {100 * limits.excluded_good:g} %, poor above {100 * limits.excluded_poor:g} %"
        said = "no view was left out" if not out else f"{out} of {views} views {'was' if out == 1 else 'were'} left out"
        yield Check("views left out", level, said, text, Quantity(out))


def _tilts(found: AlignmentEntry, limits: Thresholds) -> Iterator[Check]:
    """Yield from how many directions, over which range and with which gap the specimen was seen."""
    seen = coverage_of(found)
    if seen is None:
        return
    level = rising(seen.range_deg, limits.tilt_range_good_deg, limits.tilt_range_poor_deg)
    low, high = (round(tilt) for tilt in (seen.low_deg, seen.high_deg))
    said = f"the tilts range from {low}° to {high}°, {seen.range_deg:.0f}° in all"
    if seen.elongation is not None:
        said += f", which draws out the volume {seen.elongation:.1f} times along z"
    if seen.one_sided:
        said += "; all are on one side of zero, as in half of a series"
    text = f"good from {limits.tilt_range_good_deg:g}°, poor below {limits.tilt_range_poor_deg:g}°"
    yield Check("tilt range", level, said, text, Quantity(round(seen.range_deg, 1), "deg"))

    level = falling(seen.gap_deg, limits.tilt_gap_good_deg, limits.tilt_gap_poor_deg)
    said = f"the largest gap between tilts is {seen.gap_deg:.1f}°, at {seen.gap_at_deg:.0f}°"
    text = f"good up to {limits.tilt_gap_good_deg:g}°, poor above {limits.tilt_gap_poor_deg:g}°"
    yield Check("tilt gap", level, said, text, Quantity(round(seen.gap_deg, 1), "deg"))

    level = rising(seen.views, limits.views_good, limits.views_poor)
    text = f"good from {limits.views_good}, poor below {limits.views_poor}"
    said = "one view is used" if seen.views == 1 else f"{seen.views} views are used"
    yield Check("views", level, said, text, Quantity(seen.views))


def _refined_tilts(record: SeriesRecord, found: AlignmentEntry) -> Iterator[Check]:
    """Yield how the refined tilts scatter about a smooth change of the nominal ones; nothing where tilts are not refined or assumed.

    An offset is the tilt of the specimen, and slow changes are what alignments leave open; jumps from view to view are neither.
    """
    nominal = nominal_tilts(record)
    if nominal is None or len(nominal) != len(found.tilt_deg):
        return
    change = np.asarray(found.tilt_deg) - nominal
    left = beside_parabola(change.tolist(), nominal.tolist(), found.included)
    if left is None or np.ptp(change) < _SAME_TILT_DEG:
        return
    scatter, worst = float(np.sqrt(np.mean(left**2))), int(np.argmax(np.abs(left)))
    level = Trust.GOOD if scatter <= _MOST_TILT_SCATTER_DEG else Trust.DOUBTFUL
    said = f"the refined tilts scatter by {scatter:.1f}° about a smooth change of the nominal ones"
    if level is Trust.DOUBTFUL:
        view = int(np.flatnonzero(found.included)[worst]) + 1
        said += f", most in view {view} ({left[worst]:+.1f}°): the nominal tilts are wrong or in another order, or the alignment is"
    text = f"good up to {_MOST_TILT_SCATTER_DEG:g}°"
    yield Check("tilt scatter", level, said, text, Quantity(round(scatter, 2), "deg"))


def _pitch(found: AlignmentEntry) -> Iterator[Check]:
    """Yield by what x-axis tilt the specimen is levelled, and how well that is known; nothing where nobody looked for it."""
    error = found.x_axis_tilt_error_deg
    if error is not None:
        tilt = found.x_axis_tilt_deg or 0.0
        level = Trust.GOOD if error <= _MOST_PITCH_ERROR_DEG else Trust.DOUBTFUL
        said = f"an x-axis tilt of {tilt:.1f}°, known to ± {error:.1f}°, levels the specimen along the tilt axis"
        yield Check("x-axis tilt", level, said, f"good when known to ± {_MOST_PITCH_ERROR_DEG:g}°", Quantity(round(tilt, 2), "deg"))
    elif found.method in _TRACKING and not found.x_axis_tilt_deg:
        yield told("x-axis tilt", "the x-axis tilt is not known and 0 is taken: the specimen may slant as its grid does")


def _volume(record: SeriesRecord, limits: Thresholds) -> Iterator[Check]:
    """Yield what the volume shows of the specimen."""
    seen, specimen = record.volume, specimen_of(record)
    if seen is not None and seen.contrast is not None:
        level = rising(seen.contrast, limits.contrast_good, limits.contrast_poor)
        text = f"good from {limits.contrast_good:g}, poor below {limits.contrast_poor:g}"
        stands = "the texture of the specimen" if seen.section_low_nm is not None else "the specimen hardly stands out: its texture"
        said = f"{stands} is {seen.contrast:.2f} times that of the empty volume"
        yield Check("contrast", level, said, text, Quantity(seen.contrast))
    if seen is not None and seen.whole_numbers:
        yield from _greys(seen)
    if specimen is not None:
        yield _thickness(record, specimen)


def _greys(seen: VolumeEntry) -> Iterator[Check]:
    """Yield whether a volume of whole numbers has few of them; nothing where it has many."""
    if seen.sd >= _FEW_GREYS:
        return
    said = (
        f"the volume has few grey values: it is stored in whole numbers, whose standard deviation is {seen.sd:.1f}; a larger factor in "
        "comparam.tilt.tilt.SCALE, or comparam.tilt.tilt.MODE = 2 (reals), keeps more"
    )
    number = Quantity(round(seen.sd, 2))
    if seen.sd < _TOO_FEW_GREYS:
        yield Check("grey values", Trust.DOUBTFUL, said, f"good from {_TOO_FEW_GREYS:g}", number)
    else:
        yield told("grey values", said, number)


def _thickness(record: SeriesRecord, specimen: Specimen) -> Check:
    """Return whether the volume holds the whole specimen; where hardly any of it is empty, nothing says so."""
    said = f"the specimen is {'' if specimen.least else 'about '}{specimen.thickness} thick"
    number = Quantity(round(specimen.thickness_nm, 1), "nm")
    if specimen.cut:
        said += (
            " and reaches the edge of the volume, so that part of it may be cut off: centre it "
            "(runtime.Positioning.any.sampleType) or reconstruct a thicker volume"
        )
        return Check("thickness", Trust.DOUBTFUL, said, "good when inside the volume", number)
    seen = record.volume
    share = specimen.thickness_nm / (seen.sections * seen.voxel_nm) if seen is not None else 0.0
    if specimen.source == "texture" and share > _FULL:
        said = f"the specimen seems to fill {100 * share:.0f} % of the volume, {specimen.thickness_nm:.0f} nm"
        return told("thickness", f"{said}: whether it ends there would be seen in a thicker volume", number)
    return Check("thickness", Trust.GOOD, said, "good when inside the volume", number)
