"""Where the specimen lies in its volume and how thick it is: the one answer that verdict, page, pictures and tables give.

Positioning measures both along the specimen's own slope, with an error, and has centred the volume on the specimen: its answer is used
where it was confident.  Else it is that of the texture of the sections (:mod:`tiltflow.report.measure`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tiltflow.record import SeriesRecord, StageEntry
from tiltflow.report.lengths import pixel_size_nm

_MOST_ERROR = 1 / 3
"""An error of the thickness beyond this fraction of it is no better than the texture."""


@dataclass(frozen=True, slots=True)
class Specimen:
    """The specimen in its volume.

    Attributes
    ----------
    low_nm, high_nm
        Its lower and upper surface from the middle of the volume.
    source
        What tells them.
    error_nm
        Standard error of the thickness, where it is known.
    least
        Whether noise hides the surfaces, so that it may be thicker.
    cut
        Whether it reaches the edge of the volume, so that a part of it may be missing.
    """

    low_nm: float
    high_nm: float
    source: Literal["positioning", "texture"]
    error_nm: float | None = None
    least: bool = False
    cut: bool = False

    @property
    def thickness_nm(self) -> float:
        """From surface to surface."""
        return self.high_nm - self.low_nm

    @property
    def thickness(self) -> str:
        """The thickness in words.

        >>> Specimen(-45.0, 45.0, "positioning", 1.4).thickness, Specimen(-20.0, 25.0, "texture", least=True).thickness
        ('90 ± 1 nm', 'at least 45 nm')
        """
        least = "at least " if self.least else ""
        error = f" ± {self.error_nm:.0f}" if self.error_nm is not None else ""
        return f"{least}{self.thickness_nm:.0f}{error} nm"


def specimen_of(record: SeriesRecord) -> Specimen | None:
    """Return the best that is known of where the specimen lies; None where nothing is."""
    return positioned(record) or _textured(record)


def positioned(record: SeriesRecord) -> Specimen | None:
    """Return the specimen as positioning found it; None where it was not asked for, failed, or is not sure of the thickness."""
    stage = next((each for each in reversed(record.stages) if each.name == "positioning" and each.status == "done"), None)
    pixel_nm = pixel_size_nm(record)
    if stage is None or pixel_nm is None or not _confident(stage):
        return None
    thickness, error = _number(stage, "specimen_thickness"), _number(stage, "specimen_thickness_error")
    if thickness <= 0 or error > _MOST_ERROR * thickness:
        return None
    half = thickness * pixel_nm / 2
    seen = record.volume
    cut = seen is not None and 2 * half > seen.sections * seen.voxel_nm
    return Specimen(-half, half, "positioning", error * pixel_nm, cut=cut)


def _confident(stage: StageEntry) -> bool:
    """Return whether the specimen was found; where it was not, its angles and its shift are exactly 0."""
    return any(_number(stage, name) != 0 for name in ("tilt_offset", "x_axis_tilt", "z_shift"))


def _number(stage: StageEntry, name: str) -> float:
    number = stage.numbers.get(name)
    return float(number.value) if number is not None and number.value is not None else 0.0


def _textured(record: SeriesRecord) -> Specimen | None:
    seen = record.volume
    if seen is None or seen.section_low_nm is None or seen.section_high_nm is None:
        return None
    return Specimen(seen.section_low_nm, seen.section_high_nm, "texture", least=seen.section_least, cut=seen.section_cut)
