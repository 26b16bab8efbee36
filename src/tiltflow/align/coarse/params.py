"""Parameters of the coarse alignment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CoarseParams:
    """How views are correlated.  Defaults are those of IMOD's tiltxcorr command file where it has the parameter.

    Attributes
    ----------
    filter_sigma1
        High-pass filter: sigma of the Gaussian subtracted at low frequencies, cycles per pixel of the binned image (FilterSigma1).
    filter_radius2, filter_sigma2
        Low-pass filter: where it begins to fall, and the sigma of its fall, cycles per pixel of the binned image (FilterRadius2,
        FilterSigma2).
    max_size_px
        Views are binned until their larger side is at most this: a coarse alignment is to be good to about a raw pixel.  With half
        of it the axis angle of simulated series of 192 pixels was even 28 % better.
    exclude_central_peak
        Whether to look for a pattern fixed to the camera, and to subtract it (:mod:`tiltflow.preprocess.fixed_pattern`).
    find_axis
        Whether to estimate the tilt axis angle from the images and use it when it clearly disagrees with the header's.
    """

    filter_sigma1: float = 0.03
    filter_radius2: float = 0.25
    filter_sigma2: float = 0.05
    max_size_px: int = 256
    exclude_central_peak: bool = True
    find_axis: bool = True
