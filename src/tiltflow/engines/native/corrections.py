"""Corrections of the aligned views, in IMOD's order: CTF, gold, filter, frequencies by exposure.

What each needs is found first, with the reason where it is left out; then every view is corrected as it is made, so that no other stack
is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tiltflow.ctf.correct import ViewCtf, correct_view
from tiltflow.ctf.exposure import ExposureParams, weight_view
from tiltflow.ctf.history import ExposureHistory, exposure_history
from tiltflow.ctf.recorded import ctf_of_views
from tiltflow.ctf.requests import ExposureRequest
from tiltflow.engines.base import EngineJob
from tiltflow.engines.native.ctf import correct_params, find_ctf
from tiltflow.engines.native.given_defocus import checksums_of_defocus
from tiltflow.engines.native.step_numbers import STEP_NUMBERS
from tiltflow.erase.views import EraseParams, erase_view
from tiltflow.errors import StageError
from tiltflow.filters.radial import FilterParams, filter_view
from tiltflow.model import Alignment, Image, Stack, TiltSeries
from tiltflow.observer import StageObserver
from tiltflow.record import CtfEntry, ExposureEntry

_SWITCH = "runtime.AlignedStack.any.filterStack"
Correction = Callable[[int, Image], Image]
"""Makes of an aligned view, by its number from 0, a corrected one; in several threads at once."""


@dataclass(frozen=True, slots=True)
class _Gold:
    """Beads that are erased, and counts of what was."""

    points: NDArray[np.float64]
    params: EraseParams
    radius: float
    first_texture: int = 0
    erased: dict[int, tuple[int, int]] = field(default_factory=dict)

    def correct(self, view: int, image: Image) -> Image:
        """Return a view without beads, and count them."""
        done = erase_view(image, self.points[view], self.radius, self.params, view_number=self.first_texture + view)
        self.erased[view] = done.beads, done.pixels
        return np.asarray(done.image, np.float32)

    def note(self, notes: StageObserver) -> None:
        """Note how many beads and pixels were erased."""
        beads = [count for count, _ in self.erased.values()]
        notes.number("beads_erased_per_view", round(float(np.mean(beads)), 1) if beads else 0)
        notes.number("pixels_erased", sum(pixels for _, pixels in self.erased.values()))


@dataclass(frozen=True, slots=True)
class Corrections:
    """What is done to the aligned views, and the key of all that it depends on; empty where nothing is."""

    ctf: CtfEntry | None = None
    exposure: ExposureEntry | None = None
    filter: FilterParams | None = None
    key: str = ""

    def __bool__(self) -> bool:
        """Return whether anything is done."""
        return self.filter is not None or any(entry is not None and entry.applied for entry in (self.ctf, self.exposure))

    @property
    def numbers(self) -> object:
        """What was read of files and of the series, and decides the result: the exposures, and the MTF of the filter."""
        exposure = None if self.exposure is None or not self.exposure.applied else self.exposure.model_dump(mode="json")
        mtf = self.filter.mtf if self.filter is not None else None
        return exposure, None if mtf is None else (mtf.frequency.tolist(), mtf.value.tolist())


NO_CORRECTIONS = Corrections()


def find_corrections(job: EngineJob, views: Callable[[], Stack], alignment: Alignment, after: str) -> Corrections:
    """Return which corrections the recipe asks for and the data support.

    Parameters
    ----------
    views
        Returns the raw views `(view, y, x)`, repaired, if they are needed.
    after
        Key of the alignment.

    Raises
    ------
    StageError
        If a correction is required that these data do not support.
    LocationError, FormatError
        If a file of defocus, of exposures or of an MTF cannot be read, or does not fit.
    """
    ctf, key = _ctf_step(job, views, alignment, after)
    asked = job.recipe.filter
    return Corrections(ctf, _exposure(job), None if asked is None else asked.params(), key)


def _ctf_step(job: EngineJob, views: Callable[[], Stack], alignment: Alignment, after: str) -> tuple[CtfEntry | None, str]:
    asked = job.recipe.ctf
    if asked.correct == "no":
        return None, after
    given = checksums_of_defocus(asked.file, job.series.name)
    step = job.book.begin("ctf", STEP_NUMBERS["ctf"], (after,), (asked, given) if given else asked)
    if step.kept is not None:
        step.bring(job.workdir)
        return job.recorder.record.ctf, step.key
    entry = job.recorder.record.ctf = find_ctf(job, views(), alignment)
    path = job.path(".defocus")
    job.book.made(step, {path.name: path} if path.is_file() else {}, {"ctf": entry.model_dump(mode="json")})
    return entry, step.key


def known_exposures(series: TiltSeries, asked: ExposureRequest) -> ExposureHistory | str:
    """Return the exposures of a series, or in words why they are not known where that is no failure.

    Raises
    ------
    StageError
        If weighting is required, and they are not known.
    LocationError, FormatError, ParameterError
        If the file of exposures cannot be read, or it or a stated order does not fit the series.
    """
    known = exposure_history(series, asked)
    if isinstance(known, str) and asked.weight == "yes":
        raise StageError(f"{series.path.name}: weighting by exposure is required ({_SWITCH}), but {known}")
    return known


def _exposure(job: EngineJob) -> ExposureEntry | None:
    asked, series = job.recipe.exposure, job.series
    if asked.weight == "no":
        return None
    known = known_exposures(series, asked)
    voltage = asked.voltage_kv or series.voltage_kv
    if isinstance(known, str):
        job.recorder.warn(f"frequencies are not weighted by exposure: {known}")
        entry = ExposureEntry(reason=known)
    else:
        entry = _entry(known, voltage)
        if known.assumed:
            job.recorder.warn(
                f"frequencies are weighted in an order of the views that nothing tells ({known.source}): a wrong one weights wrong views"
            )
        if known.doubt:
            job.recorder.warn(f"frequencies are weighted by exposure, and {known.doubt}")
    job.recorder.record.exposure = entry
    return entry


def _entry(known: ExposureHistory, voltage_kv: float | None) -> ExposureEntry:
    return ExposureEntry(
        applied=True,
        reason=known.source,
        order_assumed=known.assumed,
        doubt=known.doubt,
        each=np.round(known.each, 4).tolist(),
        before=np.round(known.before, 4).tolist(),
        order=(known.order + 1).tolist(),
        voltage_kv=voltage_kv or ExposureParams().voltage_kv,
    )


@contextmanager
def correction_of(
    job: EngineJob,
    found: Corrections,
    beads: NDArray[np.float64] | None,
    alignment: Alignment,
    notes: StageObserver,
    *,
    first_texture: int = 0,
) -> Iterator[Correction | None]:
    """Provide the function that corrects the aligned, binned views, None where nothing is to be done; then note what it did.

    Parameters
    ----------
    beads
        Where gold is to be erased, `(views, beads, 2)`, pixels of the aligned stack; None for nowhere.
    first_texture
        Number of the texture that takes the place of gold in the first view; it is another one for every number.
    """
    pixel = job.series.pixel_size_angstrom * job.recipe.stack.binning
    steps: list[Correction] = []
    if found.ctf is not None and found.ctf.applied:
        steps.append(_ctf_correction(ctf_of_views(found.ctf, alignment.tilt_deg), job, pixel / 10))
        notes.note(f"the CTF is corrected ({found.ctf.method})")
    gold = _gold(job, beads, pixel / 10, first_texture)
    if gold is not None:
        steps.append(gold.correct)
    if (params := found.filter) is not None and not params.does_nothing:
        steps.append(lambda _view, image: filter_view(image, params))
        notes.note("the views are filtered")
    if found.exposure is not None and found.exposure.applied:
        steps.append(_exposure_weighting(found.exposure, job, pixel))
        notes.number("exposure", round(max(np.add(found.exposure.before, found.exposure.each)), 2), "e/angstrom^2")

    def correct(view: int, image: Image) -> Image:
        for step in steps:
            image = step(view, image)
        return image

    yield correct if steps else None
    if gold is not None:
        gold.note(notes)


def _gold(job: EngineJob, beads: NDArray[np.float64] | None, pixel_nm: float, first_texture: int) -> _Gold | None:
    if job.recipe.erase is None or beads is None:
        return None
    params = job.recipe.erase.params(job.recipe.gold_nm)
    return _Gold(beads, params, params.radius_px(pixel_nm), first_texture)


def _ctf_correction(ctf: list[ViewCtf], job: EngineJob, pixel_nm: float) -> Correction:
    params = correct_params(job.recipe.ctf)
    return lambda view, image: correct_view(image, ctf[view], pixel_nm, params)


def _exposure_weighting(entry: ExposureEntry, job: EngineJob, pixel_angstrom: float) -> Correction:
    at = np.array(entry.before) + np.array(entry.each) / 2
    params = ExposureParams(voltage_kv=entry.voltage_kv, sensitivity=job.recipe.exposure.sensitivity)
    return lambda view, image: weight_view(image, float(at[view]), pixel_angstrom, params)
