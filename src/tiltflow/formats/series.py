"""A tilt series from its stack and the files beside it: every value with its source, every disagreement reported.

Sources of each value, best first; `B` is the stack's name without its ending:

=============  =====================================================================================================
tilt angles    directive `setupset.copyarg.firstinc`; `B.rawtlt`; the `.mdoc`; the extended header; `B.tlt`
pixel size     directive `setupset.copyarg.pixel`; the `.mdoc`; the header; the extended header; else 1 Å
tilt axis      directive `setupset.copyarg.rotation`; the `.mdoc`; a title line; the extended header; `B.edf`; `B.txt`; else
               0 degrees
exposure       the `.mdoc`; the extended header; else unknown
before a view  the `.mdoc`: `PriorRecordDose`, or the exposures in the order of `DateTime`; else unknown
voltage        the `.mdoc`; else unknown
half frames    `B_EVN.mrc` and `B_ODD.mrc` (:mod:`tiltflow.formats.frame_stacks`); else none
pieces         `B.pl`; the extended header; the `.mdoc` (:mod:`tiltflow.formats.montages`); else every section is a view
=============  =====================================================================================================

The reasons: a directive and a `.rawtlt` are put there by a person, who knows better than the microscope; the `.mdoc` is
written by the microscope and has more digits than the header; a `.tlt` is the result of an earlier alignment.

* An `.mdoc` that has the angles of the extended header in another order lists the views as acquired, while the stack was sorted: the
  header's order holds for the angles, and the exposures are matched by angle.  Without angles in the header, the images are asked whether
  an `.mdoc` that is not sorted has their order (:mod:`tiltflow.formats.view_order`).
* Angles are usable if there is one for each view and they are not all equal: those of an extended header that was never
  filled in are all zero.  A `.rawtlt` with another count is an error, because it was put there on purpose; any other source with
  another count is not used, and reported.
* An `.mdoc` for images of another size gives the pixel size only if the sizes differ by a whole binning, and then last.
* A pixel of exactly 1 Å in the header is what programs write when they do not know it; it counts as unknown, as does one that no
  microscope has (1e-9 Å, as of metres written for ångström).
* The sections of a montage are pieces, and everything is counted by views: a `.rawtlt` has one angle a view, and of the values that the
  `.mdoc` and the header give a section, those of the first piece of a view are the view's.
* Missing angles are an error; the other values have a default, which is reported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltflow.errors import ParameterError
from tiltflow.formats.acquisition import exposure_before_sections, order_of_sections
from tiltflow.formats.disagreements import compare_axes, compare_pixels
from tiltflow.formats.extended import axis_angle_in_labels, axis_of_tomography, is_pixel_size
from tiltflow.formats.frame_stacks import read_frame_stacks
from tiltflow.formats.mdoc import Mdoc
from tiltflow.formats.montages import find_montage
from tiltflow.formats.side_axis import AXIS_SUFFIXES, read_side_axis
from tiltflow.formats.sources import Absent, Found, Sources, choose, count_of, find_sources
from tiltflow.formats.tiltangles import FIRSTINC, find_tilt_angles, mdoc_places
from tiltflow.model import ASSUMED, TiltSeries

PRECEDENCE: Mapping[str, tuple[str, ...]] = {
    "tilt_deg": (FIRSTINC, "B.rawtlt", "B.mdoc", "extended header", "B.tlt"),
    "pixel_size_angstrom": ("directive setupset.copyarg.pixel", "B.mdoc", "header", "extended header"),
    "axis_angle_deg": ("directive setupset.copyarg.rotation", "B.mdoc", "title line", "extended header", "B.edf", "B.txt"),
    "exposure": ("B.mdoc", "extended header"),
}
"""Field of :class:`tiltflow.model.TiltSeries` to its sources, best first."""

_PIXEL, _ROTATION = PRECEDENCE["pixel_size_angstrom"][0], PRECEDENCE["axis_angle_deg"][0]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesHints:
    """Values of the series that directives give; None where they give none.

    Attributes
    ----------
    first_tilt_deg, tilt_increment_deg
        Tilt of the first view and the step between views; both or none.
    use_rawtlt
        Whether `B.rawtlt` is requested, so that its absence is an error.
    pixel_size_angstrom
        Pixel size of the raw images.
    axis_angle_deg
        Tilt axis from vertical, counter-clockwise positive.
    exclude_views
        Views that take no part, counted from 1.
    montage
        Whether the sections of the stack are pieces of a montage; None where that is not said, and is noticed from the data.
    focus
        Whether focus was changed between the pieces of a view.
    """

    first_tilt_deg: float | None = None
    tilt_increment_deg: float | None = None
    use_rawtlt: bool = False
    pixel_size_angstrom: float | None = None
    axis_angle_deg: float | None = None
    exclude_views: tuple[int, ...] = ()
    montage: bool | None = None
    focus: bool = False


def read_series(path: str | os.PathLike[str], hints: SeriesHints | None = None, *, ask_images: bool = True) -> TiltSeries:
    """Return the tilt series whose stack is at `path`, each value with its source.

    Without `ask_images` nothing is read of the images, so that an order of views that no header tells stays open.

    Raises
    ------
    LocationError, FormatError
        The stack cannot be read, or a `.rawtlt` or `.pl` does not fit it.
    MissingValueError
        No source has the tilt angles, or the pieces of what should be a montage; the message lists each and what was found there.
    ParameterError
        The hints contradict themselves or the stack.
    """
    hints = hints or SeriesHints()
    sources = find_sources(Path(path))
    montage = find_montage(sources, hints.montage)
    if hints.focus and sources.montage is None:
        sources.report("focus is 1, which concerns the pieces of a montage, and this is none: without effect", sources.path)
    first_increment = (hints.first_tilt_deg, hints.tilt_increment_deg)
    tilts = find_tilt_angles(sources, first_increment=first_increment, use_rawtlt=hints.use_rawtlt, ask_images=ask_images)
    pixel, axis = _pixel_size(sources, hints), _axis_angle(sources, hints)
    exposure, included = _exposure(sources, tilts.value), _included(sources, hints)
    before, acquired = _before(sources, tilts.value), _acquired(sources, tilts.value)
    mdoc, frames = sources.mdoc, read_frame_stacks(sources, ask_images=ask_images)
    return TiltSeries(
        path=sources.path,
        shape=sources.shape,
        tilt_deg=tilts.value,
        pixel_size_angstrom=pixel.value,
        axis_angle_deg=axis.value,
        included=included.value,
        exposure=exposure.value,
        exposure_before=before.value,
        acquired=acquired.value,
        voltage_kv=mdoc.voltage_kv if mdoc else None,
        target_defocus_nm=mdoc.target_defocus_nm if mdoc else None,
        provenance={
            "tilt_deg": tilts.where,
            "pixel_size_angstrom": pixel.where,
            "axis_angle_deg": axis.where,
            "exposure": exposure.where,
            "included": included.where,
            **_of_the_microscope(before, acquired, mdoc),
            **_of_frames(frames),
            **({"montage": montage} if montage else {}),
        },
        problems=tuple(sources.problems),
        doubts=sources.doubts,
        container=sources.stack.container,
        frame_stacks=frames,
        montage=sources.montage,
    )


def _pixel_size(sources: Sources, hints: SeriesHints) -> Found[float]:
    if hints.pixel_size_angstrom is not None and not is_pixel_size(hints.pixel_size_angstrom):
        raise ParameterError(f"{_PIXEL}: {hints.pixel_size_angstrom} Å is not a pixel size of a microscope; give it in nm")
    stack = sources.stack
    written = stack.pixel_size_angstrom[0] if stack.pixel_size_angstrom else None
    believed = written if written is not None and written != 1 and is_pixel_size(written) else None
    if written is not None and not is_pixel_size(written):
        sources.report(
            f"the pixel size there, {written:.3g} Å, is not that of a microscope (another unit was meant, perhaps); not used",
            stack.header_name,
        )
    mdoc_pixel, mdoc_binning = _mdoc_pixel(sources)
    readings = [
        _found(hints.pixel_size_angstrom, _PIXEL),
        _found(mdoc_pixel if mdoc_binning == 1 else None, sources.mdoc_name),
        _found(believed, stack.header_name),
        _found(sources.extended.pixel_size_angstrom if sources.extended else None, sources.extended_name),
        _found(mdoc_pixel if mdoc_binning != 1 else None, f"{sources.mdoc_name} (of images {mdoc_binning} times as large)"),
    ]
    chosen = choose(
        sources, "pixel size", readings, lambda used, other: compare_pixels(used, other.value), lambda pixel: f"{pixel:.4g} Å"
    )
    if chosen is None:
        has = (
            "none"
            if written is None
            else f"{written:.3g} Å" + (", as programs write when they do not know it" if written == 1 else "")
        )
        reason = f"the {stack.header_name} has {has}"
        sources.report(
            f"no source gives the pixel size ({reason}); 1 Å is assumed, give it in nm by setupset.copyarg.pixel", sources.path
        )
        return Found(1.0, f"{ASSUMED}: 1 Å, no source gives it ({reason})")
    return chosen


def _mdoc_pixel(sources: Sources) -> tuple[float | None, int]:
    """Return the pixel size of the stack from the `.mdoc`, and its binning relative to the images of the `.mdoc`."""
    mdoc = sources.mdoc
    if mdoc is None or mdoc.pixel_size_angstrom is None:
        return None, 1
    if mdoc.image_size is None:
        return mdoc.pixel_size_angstrom, 1
    # Sorted, as images may have been turned by 90 degrees on their way into the stack.
    sides, mdoc_sides = sorted(sources.stack.shape[1:]), sorted(mdoc.image_size)
    binning = max(1, round(mdoc_sides[0] / sides[0]))
    if any(abs(size - binning * n) >= binning for size, n in zip(mdoc_sides, sides, strict=True)):
        return None, 1
    return mdoc.pixel_size_angstrom * binning, binning


def _axis_angle(sources: Sources, hints: SeriesHints) -> Found[float]:
    mdoc, extended = sources.mdoc, sources.extended
    readings = [
        _found(hints.axis_angle_deg, _ROTATION),
        _found(mdoc.axis_angle_deg if mdoc else None, f"{sources.mdoc_name} ({mdoc.axis_source})" if mdoc else ""),
        _found(_axis_in_titles(sources.stack.labels), f"title line of the {sources.stack.header_name}"),
        _found(extended.axis_angle_deg if extended else None, sources.extended_name),
        *_side_axes(sources),
    ]
    chosen = choose(
        sources,
        "tilt axis angle",
        readings,
        lambda used, other: compare_axes(used, other.value),
        lambda angle: f"{angle:.2f} degrees",
    )
    if chosen is None:
        sources.report(
            "no source gives the tilt axis angle; it is looked for in the images, but the tomogram may be mirrored: "
            "give the angle by setupset.copyarg.rotation",
            sources.path,
        )
        sources.doubt("axis_angle_deg", "no source gives the tilt axis angle, so that the tomogram may be mirrored")
        return Found(0.0, f"{ASSUMED}: 0 degrees, no source gives it")
    if chosen.where.startswith(text := sources.path.with_suffix(".txt").name):
        message = "the sign of a tilt axis angle in such a file is not known to be IMOD's: the tomogram may be mirrored"
        sources.report(message, text)
        sources.doubt("axis_angle_deg", message)
    return Found(_within_half_turn(chosen.value), chosen.where)


def _side_axes(sources: Sources) -> Iterator[Found[float] | Absent]:
    for suffix in AXIS_SUFFIXES:
        path = sources.path.with_suffix(suffix)
        axis = read_side_axis(path)
        if axis.doubt:
            sources.report(axis.doubt, path)
        yield _found(axis.angle_deg, path.name)


def _axis_in_titles(labels: Sequence[str]) -> float | None:
    of_tomography = axis_of_tomography(labels)
    return axis_angle_in_labels(labels) if of_tomography is None else of_tomography


def _exposure(sources: Sources, tilt_deg: NDArray[np.float64]) -> Found[NDArray[np.float64] | None]:
    places = mdoc_places(sources, tilt_deg)
    for values, where in (
        (sources.mdoc.exposure if sources.mdoc else None, sources.mdoc_name),
        (sources.extended.exposure if sources.extended else None, sources.extended_name),
    ):
        if values is None:
            continue
        if len(values) == sources.views:
            matched = places is not None and where == sources.mdoc_name
            total = f"{values.sum():.4g} electrons per square ångström in all"
            return Found(values[places] if matched else values, f"{where}{', matched by angle' if matched else ''}, {total}")
        sources.report(f"exposures of {count_of(len(values), 'view')} for {sources.views}; not used", where)
    return Found(None, "no source gives it")


def _before(sources: Sources, tilt_deg: NDArray[np.float64]) -> Found[NDArray[np.float64] | None]:
    """Return the exposure before each view."""
    found = exposure_before_sections(sources.mdoc) if sources.mdoc else None
    if found is None or len(found[0]) != sources.views:
        return Found(None, "no source gives it")
    places = mdoc_places(sources, tilt_deg)
    values, where = found[0], f"{sources.mdoc_name} ({found[1]})"
    return Found(values, where) if places is None else Found(values[places], f"{where}, matched by angle")


def _acquired(sources: Sources, tilt_deg: NDArray[np.float64]) -> Found[NDArray[np.int64] | None]:
    """Return the views in the order in which they were taken."""
    found = order_of_sections(sources.mdoc) if sources.mdoc else None
    if found is None or len(found[0]) != sources.views:
        return Found(None, "no source gives it")
    places = mdoc_places(sources, tilt_deg)
    order, where = found[0], f"{sources.mdoc_name} ({found[1]})"
    return Found(order, where) if places is None else Found(np.argsort(places)[order], f"{where}, matched by angle")


def _of_the_microscope(before: Found[Any], acquired: Found[Any], mdoc: Mdoc | None) -> dict[str, str]:
    """Return where those values were read that few sources tell, of the values that are known."""
    told = {"exposure_before": before, "acquired": acquired}
    where = {name: found.where for name, found in told.items() if found.value is not None}
    if mdoc is not None and mdoc.voltage_kv is not None:
        where["voltage_kv"] = f"{mdoc.path.name} (Voltage)"
    if mdoc is not None and mdoc.target_defocus_nm is not None:
        where["target_defocus_nm"] = f"{mdoc.path.name} (TargetDefocus)"
    return where


def _of_frames(frames: tuple[Path, Path] | None) -> dict[str, str]:
    return {"frame_stacks": "even and odd frames of each view, beside the stack"} if frames is not None else {}


def _included(sources: Sources, hints: SeriesHints) -> Found[NDArray[np.bool_]]:
    outside = [view for view in hints.exclude_views if not 1 <= view <= sources.views]
    if outside:
        raise ParameterError(f"view {outside[0]} is to be excluded, but {sources.path.name} has views 1 to {sources.views}")
    included = np.ones(sources.views, bool)
    included[[view - 1 for view in hints.exclude_views]] = False
    if not included.any():
        raise ParameterError(f"all {sources.views} views of {sources.path.name} are to be excluded; leave some to work with")
    excluded = ", ".join(str(view + 1) for view in np.flatnonzero(~included))
    return Found(included, f"all but {excluded}, excluded by directive" if excluded else "all views")


def _found(value: float | None, where: str) -> Found[float] | Absent:
    return Absent(where, "not given") if value is None else Found(value, where)


def _within_half_turn(degrees: float) -> float:
    return degrees if -180 <= degrees <= 180 else (degrees + 180) % 360 - 180
