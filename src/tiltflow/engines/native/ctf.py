"""Which CTF the views have: estimated from them, read from a file, or stated; and why it is not corrected where it is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tiltflow import geometry
from tiltflow.ctf.correct import CorrectParams
from tiltflow.ctf.estimate import estimate_ctf
from tiltflow.ctf.model import Microscope
from tiltflow.ctf.recorded import defocus_table
from tiltflow.ctf.requests import CtfRequest
from tiltflow.ctf.result import CtfEstimate, CtfParams
from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.given_defocus import given_defocus
from tiltflow.errors import ParameterError, StageError
from tiltflow.formats.defocus import write_defocus
from tiltflow.model import ASSUMED, Alignment, Stack, TiltSeries
from tiltflow.observer import StageObserver
from tiltflow.record import CtfEntry, RingsEntry

_ASSUMED_KV = 300.0
"""Voltage that is taken if a correction is asked for and nothing tells it: that of most microscopes for cryo tomography."""
_SWITCH = "runtime.AlignedStack.any.correctCTF"
_STATE_IT = "state it (setupset.copyarg.voltage, in kV)"
_NO_VOLTAGE = f"no source gives the voltage: {_STATE_IT}; {_SWITCH} = 1 takes {_ASSUMED_KV:g} kV"
_FILE = "runtime.Tiltflow.any.defocusFile"
_FIT = "runtime.CTFplotting.any.autoFitRangeAndStep"
_HAND = "comparam.ctfcorrection.ctfphaseflip.InvertTiltAngles"
_OTHER_DEFOCUS = 0.3
"""Part by which a defocus differs from the one that was aimed at to be worth a remark: stages and lenses are off by a tenth."""
_WRONG_DEFOCUS, _WRONG_NM = 0.5, 1000.0
"""Part and length by which a defocus that was not measured must both differ from the one that was aimed at to be doubted: focusing is off
by less, and a defocus that wrong puts the rings of the CTF elsewhere."""


def find_ctf(job: EngineJob, views: Stack, alignment: Alignment) -> CtfEntry:
    """Return the CTF of the views of a series, and whether it is to be corrected; it is written to `B.defocus` if it is known.

    Raises
    ------
    StageError
        If the correction is required, and these data do not support it.
    LocationError, FormatError, MissingValueError
        If a file of defocus cannot be read, or does not fit the series.
    """
    with job.recorder.stage("ctf") as notes:
        entry = _find(job, views, alignment, notes)
        if not entry.applied:
            if job.recipe.ctf.correct == "yes":
                raise StageError(f"{job.series.path.name}: the correction of the CTF is required ({_SWITCH}), but {entry.reason}")
            notes.warn(f"the CTF is not corrected: {entry.reason}")
        if entry.defocus_nm:
            write_defocus(job.path(".defocus"), defocus_table(entry, alignment.tilt_deg))
        _note(notes, entry)
        if entry.voltage_kv is not None:
            notes.note(_optics(job, entry))
    return entry


def _find(job: EngineJob, views: Stack, alignment: Alignment, notes: StageObserver) -> CtfEntry:
    asked, series = job.recipe.ctf, job.series
    voltage, source = _voltage(job)
    entry = CtfEntry(
        voltage_kv=voltage,
        voltage_source=source,
        cs_mm=asked.cs_mm,
        amplitude_contrast=asked.amplitude_contrast,
        method=asked.method,
    )
    if voltage is None:
        return entry.model_copy(update={"reason": _NO_VOLTAGE})
    if series.provenance.get("pixel_size_angstrom", "").startswith(ASSUMED):
        return entry.model_copy(update={"reason": "no source gives the pixel size: state it (setupset.copyarg.pixel, in nm)"})
    if source.startswith(ASSUMED):
        notes.warn(f"no source gives the voltage: {voltage:g} kV are taken, as the correction is required; {_STATE_IT}")
    scope = Microscope(voltage_kv=voltage, cs_mm=asked.cs_mm, amplitude_contrast=asked.amplitude_contrast)
    if asked.file:
        return entry.model_copy(update=_given(job, alignment, notes))
    if not asked.fit and asked.defocus_nm is not None:
        return entry.model_copy(update=_stated(job, asked.defocus_nm, notes))
    try:
        found = estimate_ctf(
            views,
            alignment.transforms,
            alignment.tilt_deg,
            series.pixel_size_angstrom / 10,
            _params(asked, scope, series.pixel_size_angstrom / 10),
            included=alignment.included,
            order=series.acquired,
            threads=job.site.threads,
        )
    except ParameterError as error:
        return entry.model_copy(update={"reason": f"it cannot be estimated: {error}"})
    _compare(job, found, notes)
    return entry.model_copy(update=_measured(asked, found, alignment, notes))


def _voltage(job: EngineJob) -> tuple[float | None, str]:
    asked, series = job.recipe.ctf, job.series
    if asked.voltage_kv is not None:
        return asked.voltage_kv, "directive setupset.copyarg.voltage"
    if series.voltage_kv is not None:
        return series.voltage_kv, series.provenance.get("voltage_kv", "given by the caller")
    return (_ASSUMED_KV, f"{ASSUMED}: {_ASSUMED_KV:g} kV, no source gives it") if asked.correct == "yes" else (None, "")


def _params(asked: CtfRequest, scope: Microscope, pixel_nm: float) -> CtfParams:
    params = CtfParams(
        microscope=scope, defocus_span_nm=asked.span_nm, astigmatism=asked.astigmatism, phase_shift=asked.phase_shift
    )
    if asked.fit_range is None:
        return params
    low, high = (frequency / pixel_nm for frequency in asked.fit_range)
    return replace(params, lowest=max(low, np.finfo(float).tiny), highest=high)


def _given(job: EngineJob, alignment: Alignment, notes: StageObserver) -> dict[str, object]:
    """Return the defocus of a file, with the hand of a directive, or else of the file; without either no gradient is corrected."""
    asked, path = job.recipe.ctf, Path(job.recipe.ctf.file)
    found = given_defocus(path, job.series, alignment)
    hand = asked.hand if asked.hand is not None else found.hand
    if hand is None:
        notes.warn(f"{path.name} does not tell to which side the defocus rises: no gradient is corrected; {_HAND} states it")
    elif found.hand is not None and hand != found.hand:
        notes.warn(
            f"{path.name} says that the hand is {found.hand:+d}, which InvertTiltAngles = {int(hand < 0)} contradicts: it is followed"
        )
    for remark in found.remarks:
        notes.warn(f"{path.name}: {remark}")
    mean = float(np.mean(found.defocus_nm))
    doubts = [*found.doubts, *_far_from_aim(job.series, mean, f"read from {path.name}, on average", f"without {_FILE}")]
    for doubt in doubts:
        notes.warn(doubt)
    return {
        "applied": True,
        "measured": False,
        "reason": f"the defocus, {mean:.0f} nm on average, is that of {found.program}, read from {path}, and was not measured",
        "defocus_nm": np.round(found.defocus_nm, 1).tolist(),
        "astigmatism_nm": round(found.astigmatism.nm, 1),
        "astigmatism_deg": round(found.astigmatism.deg, 1),
        "phase_shift_deg": round(found.phase_shift_deg, 1),
        "hand": hand or 0,
        "doubts": doubts,
    }


def _far_from_aim(series: TiltSeries, defocus_nm: float, how: str, otherwise: str) -> list[str]:
    """Return what the defocus that was aimed at says against one that was not measured; empty where that is not known, or agrees."""
    aim = series.target_defocus_nm
    if aim is None or abs(defocus_nm - aim) <= max(_WRONG_DEFOCUS * abs(aim), _WRONG_NM):
        return []
    source = series.provenance.get("target_defocus_nm", "given by the caller")
    said = f"the defocus is {defocus_nm:.0f} nm, {how}, and {aim:.0f} nm were aimed at ({source}): one of the two is wrong"
    return [f"{said}; {otherwise} it is estimated from the images"]


def _stated(job: EngineJob, defocus_nm: float, notes: StageObserver) -> dict[str, object]:
    doubts = _far_from_aim(job.series, defocus_nm, "as stated", f"with {_FIT} = 12,6")
    for doubt in doubts:
        notes.warn(doubt)
    return {
        "applied": True,
        "measured": False,
        "reason": f"the defocus of {defocus_nm:.0f} nm is stated for all views, and was not measured",
        "defocus_nm": [defocus_nm] * len(job.series.tilt_deg),
        "hand": job.recipe.ctf.hand or 1,
        "doubts": doubts,
    }


def _measured(asked: CtfRequest, found: CtfEstimate, alignment: Alignment, notes: StageObserver) -> dict[str, object]:
    seen = found.hand.sign
    if asked.hand is not None and seen is not None and asked.hand != seen:
        notes.warn(
            f"the images say that the defocus rises to the {'right' if seen > 0 else 'left'} at positive tilts, which InvertTiltAngles = "
            f"{int(asked.hand < 0)} contradicts: it is followed, but the signs of tilts or axis are worth a look"
        )
    turned = found.astigmatism.turned(-float(np.median(geometry.axis_angles(alignment.transforms)[alignment.included])))
    return {
        "applied": found.confident,
        "reason": found.reason,
        "defocus_nm": np.round(found.defocus_nm, 1).tolist() if found.confident else [],
        "error_nm": np.round(found.error_nm, 1).tolist() if found.confident else [],
        "mean_error_nm": round(found.mean_error_nm, 1) if found.confident else None,
        "astigmatism_nm": round(turned.nm, 1),
        "astigmatism_deg": round(turned.deg, 1),
        "astigmatism_error_nm": round(found.astigmatism_error_nm, 1) if np.isfinite(found.astigmatism_error_nm) else None,
        "phase_shift_deg": round(found.phase_shift_deg, 1),
        "hand": asked.hand if asked.hand is not None else seen or 0,
        "hand_measured": seen,
        "hand_certainty": round(found.hand.certainty, 4),
        "gradient": round(found.hand.factor, 3) if np.isfinite(found.hand.factor) else None,
        "gradient_error": round(found.hand.factor_error, 3) if np.isfinite(found.hand.factor_error) else None,
        "score": np.round(found.score, 4).tolist(),
        "spacing_angstrom": [round(float(each), 2) if np.isfinite(each) else None for each in found.spacing_angstrom],
        "rings": _rings(found, alignment),
    }


def _rings(found: CtfEstimate, alignment: Alignment) -> list[RingsEntry]:
    """Return the rings of the view of least tilt, and of those half way to the ends and at them."""
    used = np.flatnonzero(alignment.included)
    by_tilt = used[np.argsort(alignment.tilt_deg[used])]
    least = int(np.argmin(np.abs(alignment.tilt_deg[by_tilt])))
    shown = sorted({0, least // 2, least, (least + len(by_tilt) - 1) // 2, len(by_tilt) - 1})
    return [
        RingsEntry(
            view=int(view) + 1,
            frequency_per_nm=np.round(found.rings.frequency, 4).tolist(),
            measured=np.round(found.rings.measured[view], 4).tolist(),
            fitted=np.round(found.rings.fitted[view], 4).tolist(),
        )
        for view in by_tilt[shown]
    ]


def _compare(job: EngineJob, found: CtfEstimate, notes: StageObserver) -> None:
    """Warn if the defocus is far from the one that was aimed at."""
    aim = job.recipe.ctf.defocus_nm or job.series.target_defocus_nm
    mean = float(np.median(found.defocus_nm))
    if found.confident and aim is not None and abs(mean - aim) > _OTHER_DEFOCUS * abs(aim):
        notes.warn(f"the defocus is {mean:.0f} nm, and {aim:.0f} nm were aimed at")


def _optics(job: EngineJob, entry: CtfEntry) -> str:
    """Return what the CTF was computed with, and where each number is from."""

    def source(parameter: str) -> str:
        names = [row.name for row in job.recipe.report.rows if f"ctf.{parameter}" in row.sets]
        return f"directive {names[-1]}" if names else "assumed, as no directive gives it"

    aim = job.recipe.ctf.defocus_nm or job.series.target_defocus_nm
    by = source("defocus_nm") if job.recipe.ctf.defocus_nm else job.series.provenance.get("target_defocus_nm", "")
    return (
        f"{entry.voltage_kv:g} kV ({entry.voltage_source}), Cs {entry.cs_mm:g} mm ({source('cs_mm')}), amplitude contrast "
        f"{entry.amplitude_contrast:g} ({source('amplitude_contrast')})" + (f", aimed at {aim:g} nm ({by})" if aim else "")
    )


def _note(notes: StageObserver, entry: CtfEntry) -> None:
    notes.note(entry.reason)
    if entry.defocus_nm:
        notes.number("defocus", round(float(np.median(entry.defocus_nm)), 1), "nm")
    if entry.mean_error_nm is not None:
        notes.number("defocus_error", entry.mean_error_nm, "nm")
    if entry.score:
        notes.number("score", round(float(np.median(entry.score)), 3))
    if entry.hand is not None:
        notes.number("hand", entry.hand)


def correct_params(asked: CtfRequest) -> CorrectParams:
    """Return how the CTF is corrected."""
    return CorrectParams(method=asked.method, step_nm=asked.step_nm, snr=asked.snr)
