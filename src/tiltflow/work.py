"""The types of the work on series: what a site provides, what comes of each series, and by which limits it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its unit."""

    value: float | int | str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class StageRecord:
    """A stage: its time, its numbers, its notes."""

    name: str
    seconds: float
    status: str = "done"
    numbers: Mapping[str, Quantity] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class AssetType(StrEnum):
    """The closed set of types that a portal knows."""

    THUMBNAIL = "thumbnail"
    KEY_IMAGE = "keyImage"
    TILT_MOVIE = "tiltMovie"
    REC_MOVIE = "recMovie"
    AVERAGED_VOLUME = "averagedVolume"
    VOLUME = "volume"
    NEUROGLANCER_ZARR = "neuroglancerZarr"
    NEUROGLANCER_PRECOMPUTED = "neuroglancerPrecomputed"


@dataclass(frozen=True, slots=True)
class Asset:
    """One product: `path` is relative to the folder of the series' products."""

    type: AssetType
    path: str
    metadata: Mapping[str, Any] | None = None


class Trust(StrEnum):
    """How far a result can be trusted."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    POOR = "poor"
    FAILED = "failed"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether to trust a tomogram: a level, the reasons in sentences, and the numbers that decided, the most decisive first."""

    level: Trust
    reasons: tuple[str, ...] = ()
    numbers: Mapping[str, Quantity] = field(default_factory=dict)


_T = TypeVar("_T")


def _threshold(default: _T, description: str) -> _T:
    """Return a field of :class:`Thresholds`; the settings and their documentation read its metadata."""
    return field(default=default, metadata={"description": description, "ge": 0})


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Where a number counts as good and where as poor; what lies between is doubtful.

    Each threshold is declared here alone: as the settings `verdict.*` a site can change it, and `docs/operating.md` lists them with
    these descriptions.  None is negative.  Lengths are judged in pixels of the raw images, because what blurs by less than a pixel
    cannot be seen; where a limit in nanometres is given as well, both must be kept.
    """

    error_good_px: float = _threshold(0.5, "Estimated alignment error, raw pixels: good up to this.")
    error_poor_px: float = _threshold(1.0, "Estimated alignment error, raw pixels: poor above this.")
    error_good_nm: float | None = _threshold(None, "Estimated alignment error, nm, checked as well if given: good up to this.")
    error_poor_nm: float | None = _threshold(None, "Estimated alignment error, nm, checked as well if given: poor above this.")
    leave_out_good_px: float = _threshold(
        0.6, "Leave-out error (half of it for patches with an estimated error), raw pixels: good up to this."
    )
    leave_out_poor_px: float = _threshold(
        1.2, "Leave-out error (half of it for patches with an estimated error), raw pixels: poor above this."
    )
    leave_out_good_nm: float | None = _threshold(
        None, "Leave-out error (half of it for patches with an estimated error), nm, checked as well if given: good up to this."
    )
    leave_out_poor_nm: float | None = _threshold(
        None, "Leave-out error (half of it for patches with an estimated error), nm, checked as well if given: poor above this."
    )
    residual_good_px: float = _threshold(
        0.7, "Mean residual of the alignment (half of it for patches with an estimated error), raw pixels: good up to this."
    )
    residual_poor_px: float = _threshold(
        1.4, "Mean residual of the alignment (half of it for patches with an estimated error), raw pixels: poor above this."
    )
    residual_good_nm: float | None = _threshold(
        None,
        "Mean residual of the alignment (half of it for patches with an estimated error), nm, checked as well if given: good up to this.",
    )
    residual_poor_nm: float | None = _threshold(
        None,
        "Mean residual of the alignment (half of it for patches with an estimated error), nm, checked as well if given: poor above this.",
    )
    axis_good_deg: float = _threshold(
        10.0,
        "Difference between the tilt axis angle of the alignment and the one that was read, degrees: good up to this; "
        "above it doubtful, and poor if no specimen stands out in the volume.",
    )
    excluded_good: float = _threshold(0.1, "Fraction of the views that is left out: good up to this.")
    excluded_poor: float = _threshold(0.3, "Fraction of the views that is left out: poor above this.")
    tilt_range_good_deg: float = _threshold(
        80.0, "Range from the lowest to the highest tilt that is used, degrees: good from this."
    )
    tilt_range_poor_deg: float = _threshold(
        40.0, "Range from the lowest to the highest tilt that is used, degrees: poor below this."
    )
    tilt_gap_good_deg: float = _threshold(15.0, "Largest gap between neighbouring tilts that are used, degrees: good up to this.")
    tilt_gap_poor_deg: float = _threshold(30.0, "Largest gap between neighbouring tilts that are used, degrees: poor above this.")
    views_good: int = _threshold(11, "Number of views that are used: good from this.")
    views_poor: int = _threshold(7, "Number of views that are used: poor below this.")
    tracks_good: int = _threshold(8, "Number of tracks that the alignment rests on: good from this.")
    tracks_poor: int = _threshold(4, "Number of tracks that the alignment rests on: poor below this.")
    ctf_score_good: float = _threshold(
        0.4, "Correlation of the rings of the CTF with their fit, median of the views: good from this."
    )
    ctf_score_poor: float = _threshold(
        0.2, "Correlation of the rings of the CTF with their fit, median of the views: poor below this."
    )
    defocus_scatter_good_nm: float = _threshold(
        80.0, "Root mean square of the defocus of the views about a parabola over their tilts, nm: good up to this."
    )
    defocus_scatter_poor_nm: float = _threshold(
        200.0, "Root mean square of the defocus of the views about a parabola over their tilts, nm: poor above this."
    )
    # Lenient, as a sound tomogram may have little contrast.
    contrast_good: float = _threshold(1.02, "Texture of the specimen divided by that of the empty volume: good from this.")
    contrast_poor: float = _threshold(1.0, "Texture of the specimen divided by that of the empty volume: poor below this.")


@dataclass(frozen=True, slots=True)
class SeriesResult:
    """The result of one series."""

    source: Path
    status: str
    message: str | None = None
    stage: str | None = None
    assets: tuple[Asset, ...] = ()
    stages: tuple[StageRecord, ...] = ()
    output: Path | None = None
    verdict: Verdict | None = None

    @property
    def ok(self) -> bool:
        """Whether the series has its products."""
        return self.status == "success"


@dataclass(frozen=True, slots=True)
class Site:
    """How the work is done here; it does not affect the result and is never hashed.

    Attributes
    ----------
    mounts
        Share name to folder.
    scratch
        Where scratch folders are made; None for the system's temporary folder.
    threads
        Threads per series.
    engine_options
        Options of the engines, by name.
    assets_url
        Address under which the folder of the assets is served; empty where it is not said.
    thresholds
        Thresholds of the verdict, which does not change the result.
    export
        Programs that every series is written for too, by name.
    publish_aligned, publish_volume
        Whether the aligned stack, and the volume, are put beside the products.
    """

    mounts: Mapping[str, Path] = field(default_factory=dict)
    scratch: Path | None = None
    threads: int = 1
    engine_options: Mapping[str, str | bool | None] = field(default_factory=dict)
    keep_workdir: bool = False
    assets_url: str = ""
    thresholds: Thresholds = field(default_factory=Thresholds)
    export: tuple[str, ...] = ()
    publish_aligned: bool = True
    publish_volume: bool = True
