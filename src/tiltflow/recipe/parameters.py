"""The nine parameters that users set: declared once, as the fields of :class:`BrtParameters`.

:data:`PARAMETERS` lists them.  The options of the command line, the checks of their values, the variables of the templates and
`docs/parameters.md` follow from it; the signature of the Prefect flow, which is a contract, is tested against it.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, cast

from tiltflow.errors import ParameterError


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One of the nine parameters; all are whole numbers, as in IMOD.

    Attributes
    ----------
    name
        The field of :class:`BrtParameters`.
    imod_name
        Its name in IMOD, the templates and the Prefect flow.
    default
        Its value when it is not given, None where the data then tell; the flow, by contract, requires all nine.
    least, most
        The values that it may have.
    expected
        The same in words, for an error message.
    meaning
        What it sets, in one line.
    switch
        Whether its option takes no number, but is given or left out.
    derived
        A further variable of the templates that is computed from it; empty for none.
    """

    name: str
    imod_name: str
    default: int | None
    least: int
    most: int
    expected: str
    meaning: str
    switch: bool
    derived: str

    @property
    def option(self) -> str:
        """The option of the command line: `--two-surfaces`."""
        return "--" + self.name.replace("_", "-")

    @property
    def help(self) -> str:
        """Help text of the option."""
        return f"{self.meaning}."

    def checked(self, value: Any) -> int | None:
        """Return a plain whole number; True, as a checkbox gives it, is 1, and None, where that is the default, stays.

        Raises
        ------
        ParameterError
            If it is not a whole number, or out of range.
        """
        if value is None and self.default is None:
            return None
        try:
            number = operator.index(value)
        except TypeError:
            number = None
        if number is None or not self.least <= number <= self.most:
            raise ParameterError(f"{self.name} is {value!r}; give {self.expected} ({self.option}, IMOD's {self.imod_name})")
        return int(number)


def _parameter(
    default: int | None,
    imod_name: str,
    meaning: str,
    *,
    least: int = 0,
    most: int = 1,
    expected: str = "0 or 1",
    switch: bool = False,
    derived: str = "",
) -> Any:
    about = {
        "imod_name": imod_name,
        "meaning": meaning,
        "least": least,
        "most": most,
        "expected": expected,
        "switch": switch,
        "derived": derived,
    }
    return field(default=default, metadata=about)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrtParameters:
    """The parameters that a user chooses for a run; whole numbers, as in IMOD.

    `montage` is None where it is not given: the data tell whether the sections of a stack are pieces.  A 0 that is given says that they
    are not, and a stack of pieces is refused.

    Raises
    ------
    ParameterError
        If a value is out of range.
    """

    montage: int | None = _parameter(
        None, "montage", "1 when every view is a montage of several pieces, 0 when none is; if not given, the data tell"
    )
    gold: int = _parameter(
        10, "gold", "Diameter of the gold beads, nm; 0 for none", most=1000, expected="a diameter in nm from 0 (none) to 1000"
    )
    focus: int = _parameter(0, "focus", "1 when focus was changed between the pieces of a montage")
    fiducialless: int = _parameter(0, "fiducialless", "Align without markers: neither gold beads nor patches", switch=True)
    tracking_method: int = _parameter(
        0,
        "trackingMethod",
        "What is tracked: 0 gold beads, 1 patches, 2 beads by RAPTOR (IMOD only)",
        most=2,
        expected="0 (gold beads), 1 (patches) or 2 (RAPTOR)",
    )
    two_surfaces: int = _parameter(
        0,
        "TwoSurfaces",
        "1 when beads lie on both surfaces of the section",
        expected="0 (beads on one surface) or 1 (on both)",
        derived="SurfacesToAnalyze",
    )
    target_number_of_beads: int = _parameter(
        20, "TargetNumberOfBeads", "Number of beads to track", least=1, most=10_000, expected="a number from 1 to 10000"
    )
    local_alignments: int = _parameter(
        0, "LocalAlignments", "1 to align local areas as well, for specimens that change their shape"
    )
    thickness: int = _parameter(
        200,
        "THICKNESS",
        "Thickness of the volume, raw (unbinned) pixels",
        least=1,
        most=100_000,
        expected="a number of raw pixels from 1 to 100000",
        derived="rpa_thickness",
    )

    def __post_init__(self) -> None:
        for parameter in PARAMETERS.values():
            object.__setattr__(self, parameter.name, parameter.checked(getattr(self, parameter.name)))

    def template_variables(self) -> dict[str, str | int | float | None]:
        """Return the variables that templates may use, the derived ones included; what is not given is an empty text.

        A directive with an empty value is as if it were not there.

        >>> variables = BrtParameters(two_surfaces=1, thickness=101).template_variables()
        >>> variables["SurfacesToAnalyze"], variables["rpa_thickness"]
        (2, 151)
        """
        return {
            **{PARAMETERS[name].imod_name: "" if value is None else value for name, value in asdict(self).items()},
            "SurfacesToAnalyze": self.two_surfaces + 1,
            "rpa_thickness": int(1.5 * self.thickness),
        }


PARAMETERS: Mapping[str, Parameter] = {
    each.name: Parameter(name=each.name, default=cast("int | None", each.default), **each.metadata)
    for each in fields(BrtParameters)
}
"""The nine by name, in the order of the flow's signature."""
