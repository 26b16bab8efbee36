"""The tilt series of a folder: which of its files are some, in which order, and what is odd about them together."""

from __future__ import annotations

import difflib
import re
import string
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path

from tiltflow.delivery.halves import describe_halves, half_pairs
from tiltflow.errors import LocationError
from tiltflow.formats.frame_stacks import FRAME_ENDINGS, frame_files
from tiltflow.formats.sources import side_files
from tiltflow.formats.stacks import ENDINGS, find_view_mdoc
from tiltflow.model import Problem

SOURCE_SUFFIXES = (".mrc", ".st", ".MRC", ".ST")
"""Endings of the files that are always tilt series."""
OTHER_SUFFIXES = tuple(ending for ending in ENDINGS if ending not in SOURCE_SUFFIXES)
"""Endings of general image formats: their files are tilt series if an `.mdoc` describes them or the user names them."""
_AXIS = re.compile(r"(?P<name>.+?)(?P<axis>[abAB])(?P<number>\d*)")
"""Base name of one axis of a dual-axis set: `NAMEa` and `NAMEb`, or `NAMEa1` and `NAMEb1`; IMOD needs the name before it."""
_LARGEST_SIZE_RATIO = 2.0
"""Of the files of two axes, which differ by a few views at most."""
RESULT_ENDINGS = ("_full_rec", "_rec", "_preali", "_ali", "_fixed", *FRAME_ENDINGS, "_CTF", "_rec_even", "_rec_odd")
"""Ends of the base names of files that IMOD, AreTomo and tiltflow make of a series, and of those with half of its frames."""
_RESULT = re.compile(rf"({'|'.join(RESULT_ENDINGS)}|_bin\d+)$|^(ave|avebin8)_")


def find_series(folder: Path, name: str | None = None, *, within: Path | None = None, by_mdoc: bool = False) -> tuple[Path, ...]:
    """Return the tilt series of a folder in natural order (`a2` before `a10`), or the one called `name`.

    They are the files that end in one of :data:`SOURCE_SUFFIXES`.  A file of another container, as `B.tif`, is one when it is
    given by name, or with `by_mdoc` where an `.mdoc` beside it describes its views: `B.tif.mdoc`, or a `B.mdoc` that belongs
    to no `B.mrc` or `B.st` there.

    Files named like results, as `B_rec.mrc` (:data:`RESULT_ENDINGS`), are left out where the series that they come from is one of those
    found, unless they are given by name; :func:`look_alikes` has a remark on each.  So are stacks of even and odd frames, as `B_EVN.mrc`,
    beside any image called as their series, found or not.

    Parameters
    ----------
    folder
        Where to look; folders inside it are not searched.
    name
        File name of the one series wanted; None or empty for all.
    within
        A folder that the files, links followed, must lie in.
    by_mdoc
        Whether an `.mdoc` makes a file of another container a series.

    Raises
    ------
    LocationError
        If there is none, if `name` is not one of them, if two share a base name, or if one, or a file beside it, is a link out of
        `within`.
    """
    if not folder.is_dir():
        raise LocationError(f"No folder {folder}; check the path.")
    try:
        entries = sorted((entry for entry in folder.iterdir() if _is_file(entry)), key=natural_key)
    except OSError as error:
        raise LocationError(f"Folder {folder} cannot be read ({error.strerror}); check its permissions.") from error
    series = [entry for entry in entries if entry.name.endswith(SOURCE_SUFFIXES)]
    others = [entry for entry in entries if entry.name.endswith(OTHER_SUFFIXES)]
    if name:
        series = [_named(name, [*series, *others], folder)]
    elif by_mdoc:
        series = sorted([*series, *_described(others, {entry.stem for entry in series}, find_view_mdoc)], key=natural_key)
    if not name:
        found, series = series, _without_results(series, [*series, *others])
        _refuse_frames_alone(folder, found, series, others, by_mdoc=by_mdoc)
    if not series:
        endings = ", ".join(SOURCE_SUFFIXES)
        if not entries:
            with_mdoc = f" nor an image of another kind ({', '.join(OTHER_SUFFIXES)}) with its .mdoc" if by_mdoc else ""
            raise LocationError(
                f"No tilt series in {folder}: it is empty, and has no file that ends in {endings}{with_mdoc}; check the folder."
            )
        raise LocationError(
            f"No tilt series in {folder}: none of its {len(entries)} files ends in {endings}"
            f"{_of_another_kind(others, by_mdoc=by_mdoc)}{_spelled_otherwise(entries)}; check the folder."
        )
    _refuse_clashes(series)
    if within is not None:
        _refuse_links_out(series, within)
    return tuple(series)


def series_among(files: Iterable[Path], mdoc_of: Callable[[Path], Path | None]) -> list[Path]:
    """Return the files that :func:`find_series` takes for series, in natural order; several may share a base name.

    Parameters
    ----------
    files
        The files of one folder.
    mdoc_of
        Returns the `.mdoc` that describes the views of a file of another container, None where there is none.
    """
    entries = sorted(files, key=natural_key)
    series = [entry for entry in entries if entry.name.endswith(SOURCE_SUFFIXES)]
    others = [entry for entry in entries if entry.name.endswith(OTHER_SUFFIXES)]
    found = sorted([*series, *_described(others, {each.stem for each in series}, mdoc_of)], key=natural_key)
    return _without_results(found, [*series, *others])


def _without_results(series: Sequence[Path], images: Sequence[Path]) -> list[Path]:
    return [path for path in series if _origin(path, series) is None and _whole_of(path, images) is None]


def _refuse_frames_alone(
    folder: Path, found: Sequence[Path], series: Sequence[Path], others: Sequence[Path], *, by_mdoc: bool
) -> None:
    """Raise if all that there is are frames of series that are not taken."""
    if found and not series:
        names, whole = " and ".join(path.name for path in found), _of_another_kind(others, by_mdoc=by_mdoc)
        raise LocationError(f"No tilt series in {folder}: by their names {names} hold half of the frames of another{whole}.")


def _is_file(entry: Path) -> bool:
    """Return whether a name is that of a file, or a link that leads nowhere, as its reading says; a pipe would keep it waiting."""
    return entry.is_file() or (entry.is_symlink() and not entry.exists())


def stems(folder: Path) -> tuple[str, ...]:
    """Return the base names of all files of a folder that may be series."""
    return tuple(dict.fromkeys(path.stem for path in sorted(folder.iterdir(), key=natural_key) if path.name.endswith(ENDINGS)))


def natural_key(path: Path) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Return a key that sorts names as people do: numbers by value, letters without regard to case."""
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name)
    return tuple((0, int(part), "") if part[0] in string.digits else (1, 0, part.casefold()) for part in parts), path.name


def look_alikes(sources: Iterable[Path]) -> tuple[Problem, ...]:
    """Return a remark for each file whose name suggests that it is not a tilt series of its own.

    It is named like a result or like a metadata file of macOS, or two of them look like the axes of one specimen or the halves of
    one series (:func:`tiltflow.delivery.halves.half_pairs`).  They are processed all the same, as a name is no proof; results that
    :func:`find_series` leaves out beside `sources` have a remark that says so.
    """
    sources = list(sources)
    problems = [
        Problem(f"{path.name} is left out: {_what_it_is(path, origin)}; to process it, give it by its name", str(path))
        for path, origin in _left_out(sources)
    ]
    for path in sources:
        if _RESULT.search(path.stem):
            problems.append(Problem(f"{path.name} is named like a result; it is processed because of its ending", str(path)))
        elif path.name.startswith("._"):
            problems.append(
                Problem(f"{path.name} is named like a metadata file of macOS; it is processed because of its ending", str(path))
            )
    halves = half_pairs(sources)
    problems += [Problem(describe_halves(a, b), str(a)) for a, b in halves]
    problems += [Problem(describe_axes(a, b), str(a)) for a, b in axis_pairs(sources) if (a, b) not in halves]
    return tuple(problems)


def _what_it_is(path: Path, origin: Path) -> str:
    """Return what a file is of its series, by its name."""
    for ending, which in zip(FRAME_ENDINGS, ("even", "odd"), strict=True):
        if path.stem == f"{origin.stem}{ending}":
            return f"by its name it holds the {which} frames of {origin.name}, for half volumes"
    return f"by its name it is a result of {origin.name}"


def _left_out(sources: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield the results that lie beside series, with the series that each comes from."""
    for folder in dict.fromkeys(path.parent for path in sources):
        series = [path for path in sources if path.parent == folder]
        try:
            images = sorted((path for path in folder.iterdir() if path.name.endswith(ENDINGS)), key=natural_key)
        except OSError:
            continue
        for path in (each for each in images if each.name.endswith(SOURCE_SUFFIXES) and each not in series):
            origin = _origin(path, series) or _whole_of(path, images)
            if origin is not None:
                yield path, origin


def _origin(path: Path, series: Iterable[Path]) -> Path | None:
    """Return the series that a file comes from if it is named like a result: `B.st` for `B_rec.mrc`, and for `B_rec_EVN.mrc`."""
    stem, found = path.stem, None
    if not stem.endswith(RESULT_ENDINGS):
        return None
    by_stem = {each.stem: each for each in series}
    while (ending := next((end for end in RESULT_ENDINGS if stem.endswith(end) and stem != end), None)) is not None:
        stem = stem.removesuffix(ending)
        found = by_stem.get(stem, found)
    return found


def _whole_of(path: Path, images: Iterable[Path]) -> Path | None:
    """Return the image of all frames if a file is named like one of half of them: `B.tif` for `B_EVN.mrc`."""
    if not path.stem.endswith(FRAME_ENDINGS):
        return None
    stem = path.stem[: -len(FRAME_ENDINGS[0])]
    return next((each for each in images if each.stem == stem), None)


def axis_pairs(sources: Iterable[Path]) -> tuple[tuple[Path, Path], ...]:
    """Return the files that look like the two axes of one specimen: `xa.st` and `xb.st`, of about the same size, without an `xc.st`."""
    sources = tuple(sources)
    by_stem = {path.stem: path for path in sources}
    pairs = []
    for path in sources:
        found = _AXIS.fullmatch(path.stem)
        if found is None or found["axis"] not in "aA":
            continue
        b, c = (f"{found['name']}{chr(ord(found['axis']) + step)}{found['number']}" for step in (1, 2))
        if b in by_stem and c not in by_stem and _of_one_size(path, by_stem[b]):
            pairs.append((path, by_stem[b]))
    return tuple(pairs)


def other_axis(source: Path) -> Path | None:
    """Return the file beside a series that looks like the other axis of its specimen, or None."""
    try:
        beside = [path for path in source.parent.iterdir() if path.suffix == source.suffix]
    except OSError:
        return None
    return next((b if a == source else a for a, b in axis_pairs(beside) if source in (a, b)), None)


def describe_axes(a: Path, b: Path) -> str:
    """Return the remark on two files that look like the axes of one specimen."""
    return (
        f"{a.name} and {b.name} look like the two axes of one specimen: each is done as a series of its own; "
        "combine their volumes in eTomo"
    )


def _of_one_size(a: Path, b: Path) -> bool:
    try:
        sizes = sorted((a.stat().st_size, b.stat().st_size))
    except OSError:
        return False
    return sizes[1] <= _LARGEST_SIZE_RATIO * sizes[0]


def _described(others: Iterable[Path], taken: Container[str], mdoc_of: Callable[[Path], Path | None]) -> Iterator[Path]:
    """Yield the files whose views an `.mdoc` of their own describes; `taken` are the base names that a `B.mdoc` belongs to."""
    for path in others:
        mdoc = mdoc_of(path)
        if mdoc is not None and (mdoc.name == f"{path.name}.mdoc" or path.stem not in taken):
            yield path


def _of_another_kind(others: Sequence[Path], *, by_mdoc: bool) -> str:
    if not others:
        return ""
    name = others[0].name
    when = f"with an .mdoc of its views beside it, or by name: --file {name}" if by_mdoc else "by name: x_file_name"
    return f" ({name} is taken only {when})"


def _spelled_otherwise(entries: Iterable[Path]) -> str:
    """Return a remark on files that look like stacks but for the spelling of their ending: `B.mrcs`, `B.Mrc`."""
    found = [entry.name for entry in entries if meant_ending(entry.name)]
    if not found:
        return ""
    several = f" and {len(found) - 1} more" if len(found) > 1 else ""
    meant = Path(found[0]).with_suffix(meant_ending(found[0])).name
    return f"; {found[0]}{several} may be one by another spelling of the ending: rename it to {meant}"


def meant_ending(name: str) -> str:
    """Return the ending that a file of MRC images should have if it has another spelling of it, else an empty text.

    >>> meant_ending("B.mrcs"), meant_ending("B.Mrc"), meant_ending("B.mrc"), meant_ending("B.txt")
    ('.mrc', '.mrc', '', '')
    """
    ending = Path(name).suffix
    if ending in ENDINGS:
        return ""
    return {".mrc": ".mrc", ".mrcs": ".mrc", ".st": ".st"}.get(ending.lower(), "")


def _named(name: str, series: Sequence[Path], folder: Path) -> Path:
    for path in series:
        if path.name == name:
            return path
    if "/" in name or name in {".", ".."}:
        raise LocationError(f"{name!r} is a path; give the name of one file in {folder}.")
    if not name.endswith(ENDINGS):
        meant = f" Rename it to {Path(name).with_suffix(ending).name}." if (ending := meant_ending(name)) else ""
        raise LocationError(f"{name!r} is not the name of a tilt series: it must end in one of {', '.join(ENDINGS)}.{meant}")
    if (folder / name).exists():
        raise LocationError(f"{folder / name} is no file of images: it is a folder, a pipe or a device.")
    close = difflib.get_close_matches(name, [path.name for path in series], n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    raise LocationError(f"No file {name!r} in {folder}, which has {len(series)} tilt series.{meant} Check the spelling.")


def _refuse_clashes(series: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in series:
        other = seen.setdefault(path.stem, path)
        if other is not path:
            raise LocationError(
                f"{other.name} and {path.name} in {path.parent} share the base name {path.stem!r}, which names the folder of their "
                "products; rename one of them, or choose one by its file name."
            )


def leads_out(path: Path, within: Path) -> str:
    """Return in words that a series, or a file that is read beside it, is a link out of the folder it must lie in; empty if none is."""
    for each in (path, *side_files(path), *frame_files(path)):
        if not each.resolve().is_relative_to(within.resolve()):
            return f"{each} is a symbolic link out of {within}, to {each.resolve()}; copy the file into the share"
    return ""


def _refuse_links_out(series: Sequence[Path], within: Path) -> None:
    for path in series:
        if refused := leads_out(path, within):
            raise LocationError(f"{refused}.")
