"""The front door: a tilt series aligned, reconstructed and shown in a few lines, with arrays or files, in a script or a notebook.

::

    import tiltflow

    series = tiltflow.read("TS_01.st")
    alignment = tiltflow.align(series, method="gold", gold_nm=10)
    print(alignment.method, alignment.evidence.error_px, alignment.evidence.trust_warnings)
    specimen = tiltflow.locate_specimen(series, alignment, thickness=250)
    alignment = specimen.level(alignment)
    aligned = tiltflow.apply(series, alignment, binning=4)
    volume = tiltflow.reconstruct(aligned, alignment, thickness=250)

These are the steps that the native engine runs; nothing here touches a disk but :func:`read`, :func:`make_products` and :func:`run`.
Arrays are `(view, y, x)` and `(z, y, x)`, and their first row is the bottom of the picture (`imshow(..., origin="lower")`).
Lengths are pixels of the raw images, angles are degrees, counter-clockwise positive (:mod:`tiltflow.geometry`).  The linear algebra
library is held to one thread inside these functions, since their own threads use the cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from tiltflow.errors import ParameterError
from tiltflow.observer import SILENT, Observer
from tiltflow.parallel import one_thread_for_algebra, usable_cores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from tiltflow.align.methods import AlignParams, Method
    from tiltflow.model import AlignedViews, Alignment, Stack, TiltSeries
    from tiltflow.pipeline import OnProgress, RunResult
    from tiltflow.position import PositionResult
    from tiltflow.simulate.simulated_series import SimulatedSeries
    from tiltflow.work import Asset

__all__ = ["align", "apply", "locate_specimen", "make_products", "read", "reconstruct", "run", "simulate"]

P = ParamSpec("P")
R = TypeVar("R")


def _with_own_threads(function: Callable[P, R]) -> Callable[P, R]:
    """Hold BLAS to one thread while a function runs: its threads and ours would wait for each other (tenfold CPU time)."""

    @wraps(function)
    def bounded(*args: P.args, **kwargs: P.kwargs) -> R:
        with one_thread_for_algebra():
            return function(*args, **kwargs)

    return bounded


def read(path: str | Path, **hints: Any) -> TiltSeries:
    """Return a tilt series: its images, read view by view when they are needed, and what is known of it.

    Parameters
    ----------
    path
        The stack: MRC (`.mrc`, `.st`), TIFF, or another format that tiltflow reads.  Files beside it (`.rawtlt`, `.mdoc`) are read too.
    **hints
        Values that outrank those of files: `pixel_size_angstrom`, `axis_angle_deg`, `first_tilt_deg` with `tilt_increment_deg`,
        `exclude_views` (counted from 1); see :class:`tiltflow.formats.series.SeriesHints`.

    Returns
    -------
    TiltSeries
        `images` is `(view, y, x)` with x-ray hits repaired as views are read, and stitched where they are in pieces; `provenance` says
        where each value was read, and `problems` what was odd.

    Raises
    ------
    LocationError, FormatError
        If the stack cannot be read.
    MissingValueError
        If no source has the tilt angles.
    ParameterError
        If hints contradict each other or the stack.

    Examples
    --------
    >>> import tempfile, tiltflow
    >>> from pathlib import Path
    >>> from tiltflow.demo import write_series
    >>> path = Path(tempfile.mkdtemp()) / "TS_01.st"
    >>> write_series(path, tiltflow.simulate(size=64, views=5, beads=0))
    >>> series = tiltflow.read(path, axis_angle_deg=-8.5)
    >>> series.shape, series.axis_angle_deg, series.provenance["tilt_deg"]
    ((5, 64, 64), -8.5, 'extended header (SerialEM), 5 angles from -60.00 to 60.00')
    """
    from tiltflow.formats.series import SeriesHints, read_series

    unknown = sorted(set(hints) - set(SeriesHints.__dataclass_fields__))
    if unknown:
        raise ParameterError(f"read() knows no hint {unknown[0]!r}: there are {', '.join(SeriesHints.__dataclass_fields__)}")
    series = read_series(path, SeriesHints(**hints))
    return replace(series, images=_opened(series))


@_with_own_threads
def align(
    series: TiltSeries | ArrayLike,
    method: Method = "gold",
    fallback: bool = True,
    *,
    tilt_deg: ArrayLike | None = None,
    axis_angle_deg: float | None = None,
    pixel_size_angstrom: float | None = None,
    gold_nm: float = 10.0,
    params: AlignParams | None = None,
    observer: Observer = SILENT,
    threads: int | None = None,
) -> Alignment:
    """Return the alignment of a tilt series, by the method asked for or by the next one whose result can be trusted.

    Parameters
    ----------
    series
        From :func:`read` or :func:`simulate`, or an array of raw views `(view, y, x)`.
    method
        `gold` (beads), `patches`, `projection` (markerless) or `coarse`.
    fallback
        Whether the methods after it are tried while a result raises trust warnings.
    tilt_deg, axis_angle_deg, pixel_size_angstrom
        For an array: nominal tilts `(views,)`, degrees; the angle of the tilt axis from y, degrees, counter-clockwise positive; the
        size of a pixel, Å.  For a series: what is given replaces its own.
    gold_nm
        Diameter of the beads, nm; other methods do not need it.
    params
        All further parameters; `method`, `fallback` and `gold_nm` above are put into it.
    observer
        Hears of every stage, number and warning (:class:`tiltflow.observer.Observer`).
    threads
        Threads to use; None for all cores.

    Returns
    -------
    Alignment
        Transforms, refined tilts and, as `evidence`, the residual, the leave-out error, the estimated error, trust warnings and every
        attempt.  Without any trustworthy result the best one is returned, with its warnings.

    Raises
    ------
    ParameterError
        If an array comes without tilts or pixel size, there is no such method, or beads have no diameter.
    StageError
        If no view can be used, or the method fails and there is no fallback.

    Examples
    --------
    >>> import tiltflow
    >>> simulated = tiltflow.simulate(size=192, views=21, beads=12, thickness_px=50, pixel_nm=2, bead_nm=20)
    >>> alignment = tiltflow.align(simulated.series, gold_nm=20)
    >>> alignment.method, simulated.error_of(alignment).rms_px < 0.3
    ('gold', True)

    With arrays, and coarsely:

    >>> asked = {"tilt_deg": simulated.nominal_deg, "axis_angle_deg": -8, "pixel_size_angstrom": 20}
    >>> tiltflow.align(simulated.images, "coarse", **asked).transforms.shape
    (21, 2, 3)
    """
    import numpy as np

    from tiltflow.align.fallback import align_views
    from tiltflow.align.methods import AlignParams
    from tiltflow.engines.stitching import stitched_pieces
    from tiltflow.preprocess.bad_views import ViewParams
    from tiltflow.preprocess.montage import StitchedViews
    from tiltflow.preprocess.preparation import leave_out_bad_views

    if method == "gold" and not gold_nm > 0:
        raise ParameterError(
            f"Beads have a diameter above 0 nm, not {gold_nm}; without gold, take method='patches' or 'projection'"
        )
    known = _as_series(series, tilt_deg, axis_angle_deg, pixel_size_angstrom)
    images, threads = _images(known), threads or usable_cores()
    left_out = {int(view): "is left out by the request" for view in np.flatnonzero(~known.included)}
    return align_views(
        images,
        known.tilt_deg,
        known.axis_angle_deg,
        known.pixel_size_angstrom,
        replace(params or AlignParams(), method=method, fallback=fallback, gold_nm=gold_nm),
        excluded=leave_out_bad_views(
            images, known.tilt_deg, ViewParams(), left_out=left_out, name=known.name, observer=observer, threads=threads
        ),
        name=known.name,
        axis_told=known.axis_is_told,
        pieces=stitched_pieces(images) if isinstance(images, StitchedViews) else None,
        observer=observer,
        threads=threads,
    )


@_with_own_threads
def apply(
    series: TiltSeries | ArrayLike, alignment: Alignment, *, binning: int = 1, linear: bool = False, threads: int | None = None
) -> AlignedViews:
    """Return the views carried onto the common frame whose tilt axis runs along y through the centre.

    Parameters
    ----------
    series
        The series, or its raw views `(view, y, x)`; x-ray hits are repaired.
    alignment
        From :func:`align`, or of your own: anything with transforms `(views, 2, 3)`.
    binning
        Raw pixels averaged into one, along x and y.
    linear
        Interpolate linearly instead of cubically.
    threads
        Threads to use; None for all cores.

    Returns
    -------
    AlignedViews
        `images` is `(view, y, x)` float32, all views of the series; `binning` and pixel size go with it.

    Raises
    ------
    ParameterError
        If the transforms do not match the views, or the binning leaves nothing.

    Examples
    --------
    >>> import numpy as np, tiltflow
    >>> simulated = tiltflow.simulate(size=128, views=5)
    >>> alignment = tiltflow.align(simulated.series, "coarse")
    >>> aligned = tiltflow.apply(simulated.series, alignment, binning=2)
    >>> aligned.images.shape, aligned.pixel_size_angstrom
    ((5, 64, 64), 20.0)
    """
    import numpy as np

    from tiltflow.model import AlignedViews, TiltSeries
    from tiltflow.reconstruct.aligned_stack import StackParams, align_stack, aligned_shape

    pixel = series.pixel_size_angstrom if isinstance(series, TiltSeries) else None
    images = _images(series, alignment)
    params = StackParams(binning=binning, linear=linear)
    out = np.empty((images.shape[0], *aligned_shape(images.shape, params)), np.float32)
    for view, image in enumerate(align_stack(images, alignment.transforms, params, threads=threads or usable_cores())):
        out[view] = image
    return AlignedViews(out, binning, None if pixel is None else pixel * binning)


@_with_own_threads
def locate_specimen(
    series: TiltSeries | ArrayLike,
    alignment: Alignment,
    *,
    thickness: int | None = None,
    gold: bool = True,
    threads: int | None = None,
) -> PositionResult:
    """Return where the specimen lies in the volume: how it leans, its centre and thickness, each with its standard error.

    Parameters
    ----------
    series
        The series, or its raw views `(view, y, x)`.
    alignment
        Of the series.
    thickness
        Thickness of the volume that is searched first, raw pixels; None for a size by the image.
    gold
        Whether beads may lie on the surfaces of the specimen.
    threads
        Threads to use; None for all cores.

    Returns
    -------
    PositionResult
        Lengths in raw pixels.  `confident` says whether the numbers may be used; `level(alignment)` returns the alignment that
        levels and centres the specimen.

    Raises
    ------
    ParameterError
        If alignment and views do not match.

    Examples
    --------
    >>> import tiltflow
    >>> simulated = tiltflow.simulate(size=256, views=21, beads=12, two_surfaces=True, thickness_px=60, pitch_deg=3)
    >>> alignment = tiltflow.align(simulated.series, "coarse")
    >>> specimen = tiltflow.locate_specimen(simulated.series, alignment)
    >>> specimen.confident, bool(abs(specimen.thickness - 60) < 12)
    (True, True)
    """
    from tiltflow.position import PositionParams, position_section
    from tiltflow.position.specimen_search import small_binning
    from tiltflow.reconstruct.wbp import ReconstructParams, follow_alignment

    images: Any = _images(series, alignment)
    binning = small_binning(images.shape)
    threads = threads or usable_cores()
    return position_section(
        apply(images, alignment, binning=binning, threads=threads).images,
        alignment.tilt_deg,
        PositionParams(sample_type=1, thickness=thickness, has_gold_beads=gold),
        binning=binning,
        included=alignment.included,
        base=follow_alignment(ReconstructParams(thickness=binning), alignment),
        threads=threads,
    )


@_with_own_threads
def reconstruct(
    aligned: AlignedViews | ArrayLike,
    alignment: Alignment,
    *,
    thickness: int | None = None,
    method: Literal["wbp", "sirt"] = "wbp",
    iterations: int = 8,
    out: NDArray[np.float32] | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Return the volume, right way up: z is height above the specimen's bottom, y and x are those of the aligned views.

    Parameters
    ----------
    aligned
        From :func:`apply`, or aligned views `(view, y, x)` at full size, tilt axis along y through the centre.
    alignment
        Its tilts, its included views and, where it has them, X-axis tilt, z shift and local alignments.
    thickness
        Of the volume, raw pixels (not binned ones); None for the one that the alignment carries after `level`.
    method
        `wbp`, weighted back-projection, or `sirt`, whose projections agree with the views; it takes about twice the number of
        iterations times as long.
    iterations
        Of SIRT.
    out
        An array `(z, y, x)` float32 to write into, as a memory map of a volume that is too large for memory.
    threads
        Threads to use; None for all cores.

    Returns
    -------
    NDArray
        `(z, y, x)` float32, denser specimen darker, as the views show it.

    Raises
    ------
    ParameterError
        If no thickness is known, or `out` does not fit.

    Examples
    --------
    >>> import tiltflow
    >>> simulated = tiltflow.simulate(size=128, views=15)
    >>> alignment = tiltflow.align(simulated.series, "coarse")
    >>> tiltflow.reconstruct(tiltflow.apply(simulated.series, alignment, binning=2), alignment, thickness=60).shape
    (30, 64, 64)
    """
    import numpy as np

    from tiltflow.model import AlignedViews
    from tiltflow.reconstruct.sirt import SirtParams, reconstruct_sirt
    from tiltflow.reconstruct.trim import Trim, TrimParams
    from tiltflow.reconstruct.wbp import ReconstructParams, follow_alignment, volume_shape
    from tiltflow.reconstruct.wbp import reconstruct as back_project

    views = aligned if isinstance(aligned, AlignedViews) else AlignedViews(_as_stack(aligned), 1, None)
    asked = alignment.thickness if thickness is None else thickness
    if asked is None:
        raise ParameterError("How thick shall the volume be?  Give thickness= in raw pixels, or an alignment that was levelled")
    params = follow_alignment(ReconstructParams(thickness=asked, binning=views.binning, mode=2), alignment)
    params = replace(params, thickness=asked)
    full = volume_shape(views.images.shape, params)
    trim = Trim(full, TrimParams())
    volume = np.empty(trim.output_shape, np.float32) if out is None else out
    if volume.shape != trim.output_shape or volume.dtype != np.float32:
        raise ParameterError(f"out is {volume.shape} {volume.dtype}, and the volume {trim.output_shape} float32")

    def sink(y0: int, slab: NDArray[Any]) -> None:
        placed = trim.place(y0, slab)
        if placed is not None:
            index, block = placed
            volume[index] = block

    work: dict[str, Any] = {"included": alignment.included, "sink": sink, "threads": threads or usable_cores()}
    if method == "sirt":
        reconstruct_sirt(views.images, alignment.tilt_deg, params, SirtParams(iterations=iterations), **work)
    elif method == "wbp":
        back_project(views.images, alignment.tilt_deg, params, local=alignment.local, y_per_z=alignment.y_per_z, **work)
    else:
        raise ParameterError(f"There is no reconstruction {method!r}: choose wbp or sirt")
    return volume


@_with_own_threads
def make_products(
    aligned: AlignedViews | ArrayLike | Path,
    volume: ArrayLike | Path,
    folder: str | Path,
    *,
    name: str = "series",
    pixel_size_angstrom: float | None = None,
    threads: int | None = None,
) -> dict[str, Path]:
    """Make what people look at: tilt movie, key image, thumbnail, averaged volume and its movie, binned volume, OME-Zarr pyramid.

    Parameters
    ----------
    aligned, volume
        Aligned views `(view, y, x)` and volume `(z, y, x)`, as arrays or as MRC files of any program.
    folder
        Where the products go.
    name
        They are named after it: `tiltMov_NAME.mp4`, ...
    pixel_size_angstrom
        Of the arrays, Å; None for that of the aligned views.  Files have their own.
    threads
        Threads to use; None for all cores.

    Returns
    -------
    dict
        Type of each asset (`tiltMovie`, `keyImage`, ...) to its path.

    Raises
    ------
    StageError
        If these data give no such product.
    ResourceError
        If the folder cannot be written.

    Examples
    --------
    >>> import tempfile, tiltflow
    >>> simulated = tiltflow.simulate(size=64, views=7)
    >>> alignment = tiltflow.align(simulated.series, "coarse")
    >>> aligned = tiltflow.apply(simulated.series, alignment)
    >>> volume = tiltflow.reconstruct(aligned, alignment, thickness=40)
    >>> sorted(tiltflow.make_products(aligned, volume, tempfile.mkdtemp(), name="TS_01"))[:3]
    ['averagedVolume', 'keyImage', 'neuroglancerZarr']
    """
    from tempfile import TemporaryDirectory

    from tiltflow.model import AlignedViews
    from tiltflow.products.catalogue import ProductContext
    from tiltflow.products.catalogue import make_products as make_all

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pixel = pixel_size_angstrom or getattr(aligned, "pixel_size_angstrom", None) or 1.0
    with TemporaryDirectory(prefix=".tiltflow-", dir=folder) as work:
        views = aligned.images if isinstance(aligned, AlignedViews) else aligned
        context = ProductContext(
            name=name,
            aligned=_as_file(views, Path(work) / f"{name}_ali.mrc", pixel, is_stack=True),
            volume=_as_file(volume, Path(work) / f"{name}_rec.mrc", pixel),
            folder=folder,
            threads=threads or usable_cores(),
        )
        assets: tuple[Asset, ...] = make_all(context)
    return {str(asset.type): folder / asset.path for asset in assets}


@_with_own_threads
def simulate(*, threads: int | None = None, **what: Any) -> SimulatedSeries:
    """Return a simulated tilt series whose geometry is known.

    Parameters
    ----------
    threads
        Threads to use; None for all cores.
    **what
        What is simulated: `seed`, `size` (px), `views`, `regime` (`plastic`, `cryo` or `haadf`), `beads`, `thickness_px`, `dose`
        (electrons per pixel and view), ..., and what is wrong with it: `jumped_views`, `bar_px`, `deformation_px`, ...; see
        :class:`tiltflow.simulate.parameters.SimulationParams`.

    Returns
    -------
    SimulatedSeries
        `series` is the :class:`~tiltflow.model.TiltSeries` that other functions take, `images` its views `(view, y, x)`, `truth` its
        geometry, and `error_of(alignment)` how far an alignment is from it.

    Raises
    ------
    ParameterError
        If there is no such parameter, or its value makes no sense.

    Examples
    --------
    >>> import tiltflow
    >>> simulated = tiltflow.simulate(seed=3, size=64, views=5, beads=4)
    >>> simulated.series.shape, simulated.truth.beads_px.shape
    ((5, 64, 64), (4, 3))
    """
    from tiltflow.simulate.parameters import SimulationParams
    from tiltflow.simulate.simulated_series import simulate as simulate_series

    unknown = sorted(set(what) - set(SimulationParams.__dataclass_fields__))
    if unknown:
        raise ParameterError(f"simulate() has no {unknown[0]!r}: there are {', '.join(SimulationParams.__dataclass_fields__)}")
    return simulate_series(SimulationParams(**what), threads=threads or usable_cores())


def run(
    folder: str | Path,
    output: str | Path,
    *,
    file: str | None = None,
    template: str = "plastic_brt",
    directives: Mapping[str, object] | Iterable[str] = (),
    engine: str | None = None,
    alignment: str | Path | None = None,
    jobs: int = 1,
    redo: bool = False,
    per_series: str | Path | None = None,
    on_progress: OnProgress | None = None,
    **parameters: int,
) -> RunResult:
    """Process every tilt series of a folder as `tiltflow run` does: products, records, pages and index, each in its folder of `output`.

    Parameters
    ----------
    folder, file
        Where the series are; only one of them.
    output
        A folder for the results: one folder a series.
    template, directives
        The template of directives (`plastic_brt`, `cryo_brt` or a file), and directives that override it: `{"name": value}` or
        `["name=value"]`.
    engine
        What aligns and reconstructs: `auto`, `best`, or the name of an engine; None for the setting `engine`.
    alignment
        An alignment that another program made, or a folder of them, instead of one of our own
        (:mod:`tiltflow.formats.find_alignment`).
    jobs
        Series at the same time, each by a process of its own.
    redo
        Whether to do again what is done.
    per_series
        A table with settings of single series; if not given, `series.csv` or `series.toml` of the folder.
    on_progress
        Receives the progress of each series.
    **parameters
        `gold`, `thickness`, `fiducialless`, `tracking_method`, `two_surfaces`, ...; see :class:`tiltflow.recipe.BrtParameters`.

    Returns
    -------
    RunResult
        What became of each series, in order: one that failed has its reason and costs the others nothing.

    Raises
    ------
    LocationError
        If there are no series, or no such alignment.
    DirectiveError, ParameterError, UnsupportedError
        If the request makes no sense.

    Examples
    --------
    >>> import tempfile, tiltflow
    >>> from pathlib import Path
    >>> from tiltflow.demo import write_series
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_series(folder / "TS_01.st", tiltflow.simulate(size=96, views=9, beads=0, pixel_nm=2))
    >>> done = tiltflow.run(folder, folder / "results", fiducialless=1, thickness=60, engine="native")
    >>> [(result.status, result.assets[0].path) for result in done.results]
    [('success', 'tiltMov_TS_01.mp4')]
    """
    from tiltflow.pipeline import prepare
    from tiltflow.pipeline import run as run_series
    from tiltflow.recipe import BrtParameters, make_recipe
    from tiltflow.settings import load_settings, site_from

    settings = load_settings(engine=engine)
    pairs = [(name, str(value)) for name, value in directives.items()] if isinstance(directives, Mapping) else list(directives)
    recipe = make_recipe(
        BrtParameters(**parameters),
        template,
        pairs,
        alignment=None if alignment is None else Path(alignment),
        **settings.recipe_defaults,
    )
    made = prepare(Path(folder), recipe, file=file, per_series=None if per_series is None else Path(per_series))
    more: dict[str, Any] = {} if on_progress is None else {"on_progress": on_progress}
    return run_series(made.sources, made.recipes, site_from(settings, jobs), Path(output), jobs=jobs, redo=redo, **more)


def _as_series(
    given: TiltSeries | ArrayLike, tilt_deg: ArrayLike | None, axis_angle_deg: float | None, pixel_size_angstrom: float | None
) -> TiltSeries:
    """Return a series with what was given in place of its own."""
    import numpy as np

    from tiltflow.model import TiltSeries

    if not isinstance(given, TiltSeries):
        _refuse_path(given)
        if tilt_deg is None or pixel_size_angstrom is None:
            raise ParameterError(
                "An array of views needs tilt_deg= and pixel_size_angstrom= beside it (and axis_angle_deg=, if known)"
            )
        return TiltSeries.from_images(
            _as_stack(given), tilt_deg, pixel_size_angstrom=pixel_size_angstrom, axis_angle_deg=axis_angle_deg
        )
    changes: dict[str, Any] = {}
    if tilt_deg is not None:
        changes["tilt_deg"] = np.asarray(tilt_deg, float)
    if axis_angle_deg is not None:
        changes["axis_angle_deg"] = float(axis_angle_deg)
        changes["provenance"] = {**given.provenance, "axis_angle_deg": "given by the caller"}
    if pixel_size_angstrom is not None:
        changes["pixel_size_angstrom"] = float(pixel_size_angstrom)
    return replace(given, **changes)


def _images(series: TiltSeries | ArrayLike, alignment: Alignment | None = None) -> Stack:
    """Return the raw views of a series, opened if it has none yet, with x-ray hits repaired as they are read.

    Pieces of a montage are where an alignment sees them, if one is given.
    """
    from tiltflow.engines.stitching import as_tracks_see
    from tiltflow.model import TiltSeries
    from tiltflow.preprocess.montage import StitchedViews
    from tiltflow.preprocess.preparation import RepairingStack

    if not isinstance(series, TiltSeries):
        stack = _as_stack(series)
    elif series.images is not None:
        stack = series.images
    else:
        stack = _opened(series)
    if isinstance(stack, StitchedViews):
        return stack if alignment is None else as_tracks_see(stack, alignment)
    return stack if isinstance(stack, RepairingStack) else RepairingStack(stack)


def _opened(series: TiltSeries) -> Stack:
    """Return the views of a series on the disk, repaired, and stitched if they are in pieces."""
    from tiltflow.formats.stacks import open_stack
    from tiltflow.preprocess.montage import MontageParams, StitchedViews, measure_offsets
    from tiltflow.preprocess.preparation import RepairingStack

    sections = RepairingStack(open_stack(series.path))
    if series.montage is None:
        return sections
    axis_deg = series.axis_angle_deg if series.axis_is_told else None
    offsets = measure_offsets(sections, series.montage, series.tilt_deg, MontageParams(), axis_deg=axis_deg)
    return StitchedViews(sections, series.montage, offsets)


def _as_stack(images: Any) -> Stack:
    """Return an array as it is, or what is read view by view as such."""
    import numpy as np

    from tiltflow.model import TiltSeries

    _refuse_path(images)
    if isinstance(images, TiltSeries):
        raise ParameterError(
            f"{images.name} is a tilt series, and aligned views were expected: give tiltflow.apply(series, alignment)"
        )
    if hasattr(images, "shape") and hasattr(images, "__getitem__") and len(images.shape) == 3:
        stack: Stack = images
        return stack
    array = np.asarray(images)
    if array.ndim != 3:
        raise ParameterError(f"Views are an array (view, y, x), and this one has the shape {array.shape}")
    return array


def _refuse_path(given: object) -> None:
    if isinstance(given, (str, Path)):
        raise ParameterError(f"{str(given)!r} is the name of a file: give tiltflow.read({str(given)!r})")


def _as_file(given: Any, path: Path, pixel_size_angstrom: float, *, is_stack: bool = False) -> Path:
    """Return the path of a file that holds an array; a path is returned as it is."""
    import numpy as np

    if isinstance(given, (str, Path)):
        return Path(given)
    from tiltflow.formats.mrc import MrcWriter

    images = _as_stack(given)
    views, ny, nx = images.shape
    dtype = images.dtype if isinstance(images, np.ndarray) and images.dtype in (np.int16, np.uint8) else np.dtype(np.float32)
    with MrcWriter(path, (views, ny, nx), dtype.type, pixel_size_angstrom=pixel_size_angstrom, is_stack=is_stack) as out:
        for index in range(views):
            out.write(np.asarray(images[index]))
    return path
