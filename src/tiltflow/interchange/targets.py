"""The programs that a series can be exported to: one table, which command, settings, pipeline and documentation walk.

A target is a module of this package with `write(geometry, folder) -> list[Path]` and `remarks(geometry) -> list[str]`; it is imported
when it is used, so that this module is light.  One whose program takes all series of a run in one folder has
`collect(exports, folder) -> list[Path]` too.

>>> [target.name for target in TARGETS]
['imod', 'relion5', 'warp', 'aretomo', 'czi', 'neuroglancer']
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tiltflow.errors import ParameterError

if TYPE_CHECKING:
    from tiltflow.interchange.series_geometry import SeriesGeometry


@dataclass(frozen=True, slots=True)
class Target:
    """What is written for a program.

    Attributes
    ----------
    name
        As the user gives it, and the name of the folder.
    program
        Who reads it, in words.
    files
        What is written, for a series `B`.
    module
        The module that writes it.
    """

    name: str
    program: str
    files: str
    module: str

    def write(self, geometry: SeriesGeometry, folder: Path) -> list[Path]:
        """Write the files of a series into an empty folder, and return their paths."""
        return cast("Callable[[SeriesGeometry, Path], list[Path]]", import_module(self.module).write)(geometry, folder)

    @property
    def collects(self) -> bool:
        """Whether the program takes all series of a run in one folder."""
        return hasattr(import_module(self.module), "collect")

    def collect(self, exports: Sequence[tuple[SeriesGeometry, Path]], folder: Path) -> list[Path]:
        """Write what a program takes for all series of a run, each with the folder of its export, into an existing folder."""
        collect = cast("Callable[[Sequence[tuple[SeriesGeometry, Path]], Path], list[Path]]", import_module(self.module).collect)
        return collect(exports, folder)

    def remarks(self, geometry: SeriesGeometry) -> list[str]:
        """Return what a user of the files of a series has to know."""
        return cast("Callable[[SeriesGeometry], list[str]]", import_module(self.module).remarks)(geometry)


TARGETS: tuple[Target, ...] = (
    Target(
        "imod",
        "IMOD and eTomo, and readers of their files",
        "`B.edf` `B.rawtlt` `B.tlt` `B.xtilt` `B.xf` `B.prexg` `B.fid` `newst.com` `tilt.com` `align.com` `track.com` "
        "`B.defocus` `ctfcorrection.com`; links to the stack, `B_ali.mrc` and `B_rec.mrc`",
        "tiltflow.interchange.imod_set",
    ),
    Target(
        "relion5",
        "RELION-5",
        "`tomograms.star` `tilt_series/B.star`; a link to the stack",
        "tiltflow.interchange.relion",
    ),
    Target("warp", "WarpTools and M", "`B/B.xf` `B/B.tlt` `B/B_cutviews0.rawtlt` `B/B_ctf.xml`", "tiltflow.interchange.warp"),
    Target("aretomo", "AreTomo3, and readers of .aln", "`B.aln` `B_TLT.txt` `B_CTF.txt`", "tiltflow.interchange.aretomo"),
    Target(
        "czi",
        "the CryoET Data Portal and copick",
        "`B.xf` `B.tlt` `B.xtilt` `tilt.com` `newst.com` `alignment_metadata.json` `tiltseries_metadata.json` `tomogram_metadata.json` "
        "`B.zarr`",
        "tiltflow.interchange.portal",
    ),
    Target("neuroglancer", "Neuroglancer", "`B_neuroglancer.json` `B_neuroglancer.txt`", "tiltflow.interchange.neuroglancer"),
)


def target_names() -> tuple[str, ...]:
    """Return the names of all targets."""
    return tuple(target.name for target in TARGETS)


def find_target(name: str) -> Target:
    """Return the target of a name.

    Raises
    ------
    ParameterError
        If there is none.
    """
    for target in TARGETS:
        if target.name == name:
            return target
    raise ParameterError(f"{name!r} is not a program to export to; give {', '.join(target_names())}")
