"""What the stitching of a montage may be told."""

from __future__ import annotations

from dataclasses import dataclass

from tiltflow.errors import ParameterError


@dataclass(frozen=True, slots=True, kw_only=True)
class MontageParams:
    """How pieces are put together.

    Attributes
    ----------
    focus
        Whether the focus followed the height of each piece (`focus` of batchruntomo), so that rotation and magnification change with it:
        they are then estimated along the height whether or not the overlaps show it beyond doubt.
    gray
        Whether gain and shading of the pieces are evened out from their overlaps.
    search_px
        How far two neighbours may lie from where they are written, pixels; None for half the overlap, or 32 pixels if that is more, but
        never more than the overlap.

    Raises
    ------
    ParameterError
        If the search is shorter than 4 pixels.
    """

    focus: bool = False
    gray: bool = True
    search_px: int | None = None

    def __post_init__(self) -> None:
        if self.search_px is not None and self.search_px < 4:
            raise ParameterError(f"search of {self.search_px} pixels in the overlaps of a montage: it must be 4 or more")
