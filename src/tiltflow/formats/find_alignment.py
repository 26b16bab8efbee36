"""Which file holds the alignment that another program made of a series, and reading it.

A path is the file itself, or a folder in which it is found by the base name B of the series, in the places where programs put it:

| program | in a folder F |
|---|---|
| IMOD | `F/B.xf` with `.tlt`; `F/B/B.xf` |
| AreTomo | `F/B.aln`, `F/B_st.aln`; of its exports `B_Imod/B_st.xf`, where there is no `.aln`, which has more digits |
| RELION 5 | `F/B.star`, `F/tilt_series/B.star`; a table of all series, `F/*tomograms.star` or `F/*tilt_series.star`, that names B |
| Warp, M | `F/B.xml`; `F/B/B.xf`, `F/B/B_Imod/B.xf`, `F/B_Imod/B.xf`, `F/B_aligned_Imod/B.xf` |

Each is also looked for in the sub-folder `F/B`.  Two that are found are an error, as nothing says which is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.aretomo import read_aln
from tiltflow.formats.foreign_alignment import ForeignAlignment
from tiltflow.formats.imod_alignment import companions, read_imod_alignment
from tiltflow.formats.relion_star import names_in, read_relion_alignment, relion_series_file
from tiltflow.formats.warp_xml import read_warp_xml

SUFFIXES = (".xf", ".tlt", ".aln", ".star", ".xml")
"""Endings of files that can be given; `.tlt` stands for the `.xf` beside it."""

_TABLES = ("*tomograms.star", "*tilt_series.star")
_IN_A_FOLDER = "B.xf with B.tlt, B.aln, B.star, B.xml"


def check_alignment_path(path: Path, names: Sequence[str]) -> None:
    """Refuse a path that cannot hold the alignments of the series of these base names.

    Raises
    ------
    LocationError
        If there is nothing, or one file of one series for several series.
    FormatError
        If it is a file of another kind.
    """
    if path.is_dir():
        return
    if not path.exists():
        raise LocationError(f"{path}: there is no such file or folder of alignments")
    _kind(path)
    if len(names) > 1 and not (path.suffix.lower() == ".star" and names_in(path)):
        raise LocationError(
            f"{path}: is the alignment of one series, and there are {len(names)}: give the folder of their alignments, or the name "
            f"of the one series (--file)"
        )


def find_alignment(path: Path, name: str) -> Path:
    """Return the file that holds the alignment of a series.

    Parameters
    ----------
    path
        The file, or a folder.
    name
        Base name of the series.

    Raises
    ------
    LocationError
        If there is none, or more than one.
    FormatError
        If it is a file of another kind.
    """
    if not path.is_dir():
        if not path.exists():
            raise LocationError(f"{path}: there is no such file or folder of alignments")
        _kind(path)
        return path.with_suffix(".xf") if path.suffix.lower() == ".tlt" else path
    found = _candidates(path, name)
    if not found:
        raise LocationError(
            f"{path}: has no alignment of {name}: looked for {_IN_A_FOLDER.replace('B', name)}, here, in the folder {name} and where "
            f"AreTomo, RELION and Warp put them; base names must be equal"
        )
    if len(found) > 1:
        raise LocationError(
            f"{path}: has {len(found)} alignments of {name}: {', '.join(str(each.relative_to(path)) for each in found)}; give the "
            f"file that is meant"
        )
    return found[0]


def read_alignment(path: Path, name: str, image_size: tuple[int, int], pixel_size_angstrom: float) -> ForeignAlignment:
    """Return the alignment that a file holds.

    Parameters
    ----------
    path
        From :func:`find_alignment`.
    name
        Base name of the series.
    image_size
        Width and height of its raw views.
    pixel_size_angstrom
        Of its raw pixels.

    Raises
    ------
    LocationError, FormatError, MissingValueError
        If it cannot be read, or is incomplete.
    """
    kind = _kind(path)
    if kind == ".aln":
        return read_aln(path)
    if kind == ".star":
        return read_relion_alignment(path, name, pixel_size_angstrom)
    if kind == ".xml":
        return read_warp_xml(path, pixel_size_angstrom)
    return read_imod_alignment(path.with_suffix(".xf") if kind == ".tlt" else path, image_size, pixel_size_angstrom)


def alignment_files(path: Path, name: str) -> tuple[Path, ...]:
    """Return all files that the alignment of a series depends on: the one that was found, and those that are read with it.

    Raises
    ------
    LocationError, FormatError, MissingValueError
        If a table of all series cannot be read, or does not name the series.
    """
    if path.suffix.lower() == ".star":
        return tuple(dict.fromkeys((path, relion_series_file(path, name))))
    return (path, *companions(path)) if path.suffix.lower() == ".xf" else (path,)


def _kind(path: Path) -> str:
    if path.suffix.lower() not in SUFFIXES:
        raise FormatError(
            f"{path}: is not an alignment that can be read: give a file that ends with {', '.join(SUFFIXES[:-1])} or "
            f"{SUFFIXES[-1]}, or a folder of them"
        )
    return path.suffix.lower()


def _candidates(folder: Path, name: str) -> list[Path]:
    places = [folder, folder / name]
    of_aretomo = [place / f"{base}.aln" for place in places for base in (name, f"{name}_st")]
    of_imod = [place / f"{base}.xf" for place in places for base in (name, f"{name}_st")]
    of_others = [place / f"{name}{suffix}" for place in (*places, folder / "tilt_series") for suffix in (".star", ".xml")]
    found = [path for path in (*of_imod, *of_aretomo, *of_others) if path.is_file()]
    if not any(path.suffix == ".aln" for path in found):
        exports = [place / f"{name}{end}" for place in places for end in ("_Imod", "_aligned_Imod")]
        found += [path for place in exports for base in (name, f"{name}_st") if (path := place / f"{base}.xf").is_file()]
    if not any(path.suffix == ".star" for path in found):
        tables = sorted({path for pattern in _TABLES for path in folder.glob(pattern)})
        found += [path for path in tables if name in names_in(path)]
    return found
