"""What a recipe asks of the erasing of gold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tiltflow.erase.filling import Filling
from tiltflow.erase.views import EraseParams


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseRequest:
    """Whether and how gold is erased.

    Attributes
    ----------
    which
        The beads that were `tracked`, or those that are `found` in a volume.
    extra_diameter_px, expand, fill
        As :class:`tiltflow.erase.views.EraseParams` has them.
    binning, thickness
        Of the volume in which beads are found; None for beads of five voxels, and for the thickness of the tomogram, raw pixels.
    """

    which: Literal["tracked", "found"] = "tracked"
    extra_diameter_px: float = 4.0
    expand: int = 0
    fill: Filling = "texture"
    binning: int | None = None
    thickness: int | None = None

    def params(self, diameter_nm: float) -> EraseParams:
        """Return what is erased of beads of a diameter.

        Raises
        ------
        ParameterError
            If a size is out of range.
        """
        return EraseParams(diameter_nm=diameter_nm, extra_diameter_px=self.extra_diameter_px, expand=self.expand, fill=self.fill)
