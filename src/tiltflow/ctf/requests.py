"""What a recipe asks of the CTF and of the weighting by exposure; what the series itself tells is filled in later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from tiltflow.errors import ParameterError

Wish: TypeAlias = Literal["no", "if known", "yes"]
"""Whether something is done: never, where the data support it, or always, so that it is an error where they do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CtfRequest:
    """Whether and how the CTF is estimated and corrected.

    Attributes
    ----------
    correct
        Whether the aligned views are corrected.
    file
        File with the defocus that another program found, which is taken in place of an estimate; empty for none.
    fit
        Whether the defocus is estimated from the images; if not, `defocus_nm` holds for all views.
    voltage_kv, defocus_nm
        None for those of the series.  The defocus is that which was aimed at, underfocus positive.
    cs_mm, amplitude_contrast
        Spherical aberration and the part of the contrast that is absorption.
    span_nm
        Least and greatest mean defocus that is possible.
    fit_range
        Lowest and highest frequency of the fit, cycles per raw pixel; None for those that suit tilt series.
    astigmatism, phase_shift
        Whether these are looked for.
    hand
        Sign of the defocus gradient; None for the one that the images tell.
    method, step_nm, snr
        As :class:`tiltflow.ctf.correct.CorrectParams` has them.
    """

    correct: Wish = "no"
    file: str = ""
    fit: bool = True
    voltage_kv: float | None = None
    defocus_nm: float | None = None
    cs_mm: float = 2.7
    amplitude_contrast: float = 0.07
    span_nm: tuple[float, float] = (500.0, 10_000.0)
    fit_range: tuple[float, float] | None = None
    astigmatism: bool = True
    phase_shift: bool = False
    hand: int | None = None
    method: Literal["flip", "multiply", "wiener"] = "flip"
    step_nm: float = 100.0
    snr: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.span_nm[0] < self.span_nm[1]:
            raise ParameterError(
                f"a defocus from {self.span_nm[0]:g} to {self.span_nm[1]:g} nm: give a range that rises from above 0"
            )
        if self.fit_range is not None and not 0 <= self.fit_range[0] < self.fit_range[1]:
            raise ParameterError(
                f"a fit from {self.fit_range[0]:g} to {self.fit_range[1]:g} cycles per pixel: give a range that rises"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureRequest:
    """Whether and by which exposures frequencies are weighted.

    Attributes
    ----------
    weight
        Whether the aligned views are weighted.
    each
        Exposure of every view, electrons per square ångström; None for those of the series.
    initial
        What the specimen had received before the first view.
    scheme
        The order in which the views were taken: as the series tells it, dose-symmetric from the view of least tilt, or bidirectional.
    first_views
        Of a bidirectional series: views of the first branch, which begins at this view and goes down to the first.
    file, columns
        File with exposures, one line a view, and what its numbers are: 1 the exposure of the view, 2 what came before and that of the
        view, 3 what came before and what had come after.
    voltage_kv
        None for that of the series.
    sensitivity
        Factor on the exposure.
    """

    weight: Wish = "no"
    each: float | None = None
    initial: float = 0.0
    scheme: Literal["told", "dose-symmetric", "bidirectional"] = "told"
    first_views: int = 0
    file: str = ""
    columns: int = 1
    voltage_kv: float | None = None
    sensitivity: float = 1.0
