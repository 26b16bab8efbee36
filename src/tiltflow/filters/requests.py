"""What a recipe asks of the filter of the aligned stack; the MTF is read when there is work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tiltflow.filters.radial import FilterParams
from tiltflow.formats.mtf import read_mtf


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterRequest:
    """As :class:`tiltflow.filters.radial.FilterParams`, with the path of the file of the MTF, empty for none."""

    low_pass: tuple[float, float] | None = (0.35, 0.05)
    high_pass_sigma: float = 0.0
    mtf_file: str = ""
    inverse_rolloff: tuple[float, float] = (0.12, 0.05)
    maximum_inverse: float = 4.0

    def params(self) -> FilterParams:
        """Return what it asks for, with the MTF.

        Raises
        ------
        LocationError, FormatError
            If the file of the MTF cannot be read, or is none.
        """
        return FilterParams(
            low_pass=self.low_pass,
            high_pass_sigma=self.high_pass_sigma,
            mtf=read_mtf(Path(self.mtf_file)) if self.mtf_file else None,
            inverse_rolloff=self.inverse_rolloff,
            maximum_inverse=self.maximum_inverse,
        )
