"""The nine parameters that users set, by IMOD's names at the door and by ours inside."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tiltflow.errors import ParameterError

IMOD_NAMES: Mapping[str, str] = {
    "montage": "montage",
    "gold": "gold",
    "focus": "focus",
    "fiducialless": "fiducialless",
    "tracking_method": "trackingMethod",
    "two_surfaces": "TwoSurfaces",
    "target_number_of_beads": "TargetNumberOfBeads",
    "local_alignments": "LocalAlignments",
    "thickness": "THICKNESS",
}
"""Field to the name that IMOD, the templates and the Prefect flow have for it."""

_RANGES: Mapping[str, tuple[int, int, str]] = {
    "montage": (0, 1, "0 or 1"),
    "gold": (0, 1000, "a diameter in nm from 0 (none) to 1000"),
    "focus": (0, 1, "0 or 1"),
    "fiducialless": (0, 1, "0 or 1"),
    "tracking_method": (0, 2, "0 (gold beads), 1 (patches) or 2 (RAPTOR)"),
    "two_surfaces": (0, 1, "0 (beads on one surface) or 1 (on both)"),
    "target_number_of_beads": (1, 10_000, "a number from 1 to 10000"),
    "local_alignments": (0, 1, "0 or 1"),
    "thickness": (1, 100_000, "a number of raw pixels from 1 to 100000"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BrtParameters:
    """What a user chooses for a run; whole numbers, as in IMOD.

    Attributes
    ----------
    montage
        1 when every view is a montage of several images.
    gold
        Diameter of the gold beads, nm; 0 for none.
    focus
        1 when focus was changed between the images of a montage.
    fiducialless
        1 to align by correlation alone, without tracks.
    tracking_method
        What is tracked: 0 gold beads, 1 patches, 2 beads by RAPTOR (IMOD only).
    two_surfaces
        1 when beads lie on both surfaces of the section.
    target_number_of_beads
        Beads to track.
    local_alignments
        1 to solve local areas as well, for specimens that change their shape.
    thickness
        Of the volume, pixels of the raw images, whatever the binning.
    """

    montage: int = 0
    gold: int = 10
    focus: int = 0
    fiducialless: int = 0
    tracking_method: int = 0
    two_surfaces: int = 0
    target_number_of_beads: int = 20
    local_alignments: int = 0
    thickness: int = 200

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _checked(field.name, getattr(self, field.name)))

    @classmethod
    def from_imod_names(cls, **values: int) -> BrtParameters:
        """Return the parameters from values by IMOD's names: `TwoSurfaces=1`.

        Raises
        ------
        ParameterError
            If a name is unknown or a value makes no sense.
        """
        ours = {imod: name for name, imod in IMOD_NAMES.items()}
        if unknown := sorted(set(values) - set(ours)):
            raise ParameterError(f"unknown parameter {unknown[0]!r}; there are {', '.join(ours)}")
        return cls(**{ours[name]: value for name, value in values.items()})

    def template_variables(self) -> dict[str, str | int | float | None]:
        """Return what templates may refer to, the derived values included.

        >>> variables = BrtParameters(two_surfaces=1, thickness=101).template_variables()
        >>> variables["SurfacesToAnalyze"], variables["rpa_thickness"]
        (2, 151)
        """
        return {
            **{IMOD_NAMES[name]: value for name, value in asdict(self).items()},
            "SurfacesToAnalyze": self.two_surfaces + 1,
            "rpa_thickness": int(1.5 * self.thickness),
        }


def option_of(field: str) -> str:
    """Return the option of the command line that sets a parameter."""
    return "--" + field.replace("_", "-")


def _checked(field: str, value: Any) -> int:
    """Return a plain whole number; True, as a checkbox gives it, is 1."""
    least, most, expected = _RANGES[field]
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        raise ParameterError(f"{field} is {value!r}; give {expected} ({option_of(field)}, IMOD's {IMOD_NAMES[field]})")
    return int(number)
