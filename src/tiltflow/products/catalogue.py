"""The closed list of products and the steps that make them.

:data:`PRODUCTS` lists the products, :data:`STEPS` how they are made: the pipeline, the Prefect flow and the documentation follow
these tables.  A step needs only paths and files of earlier steps, so that each can run alone in another process.

>>> [step.name for step in STEPS][:3]
['gen_tilt_movie', 'gen_thumbs', 'gen_ave_mrc']
>>> product(AssetType.REC_MOVIE).file_name("TS_01")
'keyMov_TS_01.mp4'

The steps import what they need when they run: this module itself is light.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from tiltflow.errors import ResourceError, StageError, TiltflowError
from tiltflow.model import Progress
from tiltflow.products.context import PRODUCTS, STATE_NAMES, Product, ProductContext, Source, StepResult, product
from tiltflow.work import Asset, AssetType, Quantity

if TYPE_CHECKING:
    from tiltflow.products.movies import MadeMovie
    from tiltflow.products.volumes import MadeVolume

__all__ = ["PRODUCTS", "STEPS", "Product", "ProductContext", "ProductStep", "Source", "StepResult", "make_products", "product"]


def _no_settings(_context: ProductContext) -> object:
    return None


@dataclass(frozen=True, slots=True)
class ProductStep:
    """One step; operators see its name.

    Attributes
    ----------
    name
        The task's name in the flow.
    reads
        Files it needs: those of the engine, or products of earlier steps.
    makes
        Products it makes.
    description
        What it makes, in words.
    number
        Raised by one when it makes another output of the same input: earlier products are then made again.
    settings
        What its output depends on besides its input.
    beside
        Patterns of files that it makes beside its products.
    """

    name: str
    reads: tuple[Source | AssetType, ...]
    makes: tuple[AssetType, ...]
    description: str
    run: Callable[[ProductContext, Progress | None], StepResult] = field(repr=False)
    number: int = 1
    settings: Callable[[ProductContext], object] = field(default=_no_settings, repr=False)
    beside: tuple[str, ...] = ()

    def make(self, context: ProductContext, progress: Progress | None = None) -> StepResult:
        """Make the products of this step.

        Raises
        ------
        StageError
            A file it needs is missing, or has no usable voxels.
        ResourceError
            The folder cannot be written.
        """
        for needed in self.reads:
            path = _path_of(needed, context)
            if not path.exists():
                raise StageError(f"{self.name} needs the {needed} {path}, which does not exist; {_remedy(needed)}")
        try:
            context.folder.mkdir(parents=True, exist_ok=True)
            return self.run(context, progress)
        except TiltflowError:
            raise
        except OSError as error:
            raise ResourceError(f"{self.name}: {error.filename or context.folder}: {error.strerror or error}") from error


def make_products(
    context: ProductContext,
    *,
    on_step: Callable[[ProductStep, StepResult], None] | None = None,
    progress: Progress | None = None,
) -> tuple[Asset, ...]:
    """Run all steps in order; return all assets.

    Parameters
    ----------
    context
        The paths.
    on_step
        Called with each step and its result when it is done.
    progress
        Receives the fraction of all steps that is done.

    Raises
    ------
    StageError, ResourceError
        As :meth:`ProductStep.make`.
    """
    assets: list[Asset] = []
    for index, step in enumerate(STEPS):
        result = step.make(context, _share(progress, index))
        assets += result.assets
        if on_step is not None:
            on_step(step, result)
    return tuple(assets)


def _share(progress: Progress | None, index: int) -> Progress | None:
    if progress is None:
        return None
    report = progress
    return lambda fraction: report((index + fraction) / len(STEPS))


def _path_of(needed: Source | AssetType, context: ProductContext) -> Path:
    if needed is Source.ALIGNED:
        return context.aligned
    if needed is Source.VOLUME:
        return context.volume
    return context.path(AssetType(needed))


def _remedy(needed: Source | AssetType) -> str:
    maker = next((step.name for step in STEPS if needed in step.makes), None)
    return f"run {maker} first" if maker else "the engine makes it"


def _movie_numbers(made: MadeMovie, movie: Path) -> dict[str, Quantity]:
    from tiltflow.disk import size_bytes

    return {
        "frames": Quantity(made.frames),
        "width": Quantity(made.width, "px"),
        "height": Quantity(made.height, "px"),
        "size": Quantity(size_bytes(movie), "bytes"),
    }


def _gen_tilt_movie(context: ProductContext, progress: Progress | None) -> StepResult:
    from tiltflow.products.movies import make_tilt_movie

    movie, key_image = context.path(AssetType.TILT_MOVIE), context.path(AssetType.KEY_IMAGE)
    made = make_tilt_movie(context.aligned, movie, key_image, threads=context.threads, progress=progress)
    assets = (context.asset(AssetType.TILT_MOVIE), context.asset(AssetType.KEY_IMAGE))
    return StepResult(assets, _movie_numbers(made, movie), made.notes)


def _gen_thumbs(context: ProductContext, progress: Progress | None) -> StepResult:
    from tiltflow.products.images import make_thumbnail

    width, height = make_thumbnail(context.path(AssetType.KEY_IMAGE), context.path(AssetType.THUMBNAIL))
    if progress is not None:
        progress(1.0)
    return StepResult((context.asset(AssetType.THUMBNAIL),), {"width": Quantity(width, "px"), "height": Quantity(height, "px")})


def _gen_ave_mrc(context: ProductContext, progress: Progress | None) -> StepResult:
    from tiltflow.products.volumes import make_averaged_volume

    path = context.path(AssetType.AVERAGED_VOLUME)
    made = make_averaged_volume(context.volume, path, threads=context.threads, progress=progress)
    return StepResult((context.asset(AssetType.AVERAGED_VOLUME),), _volume_numbers(made), made.notes)


def _gen_recon_movie(context: ProductContext, progress: Progress | None) -> StepResult:
    from tiltflow.products.movies import make_section_movie

    movie = context.path(AssetType.REC_MOVIE)
    made = make_section_movie(context.path(AssetType.AVERAGED_VOLUME), movie, threads=context.threads, progress=progress)
    return StepResult((context.asset(AssetType.REC_MOVIE),), _movie_numbers(made, movie), made.notes)


def _gen_ave_8_vol(context: ProductContext, progress: Progress | None) -> StepResult:
    from tiltflow.products.volumes import make_binned_volume

    averaged, path = context.path(AssetType.AVERAGED_VOLUME), context.path(AssetType.VOLUME)
    made = make_binned_volume(averaged, path, threads=context.threads, progress=progress)
    return StepResult((context.asset(AssetType.VOLUME),), _volume_numbers(made), made.notes)


def _volume_numbers(made: MadeVolume) -> dict[str, Quantity]:
    nz, ny, nx = made.shape
    return {
        "sections": Quantity(nz),
        "width": Quantity(nx, "px"),
        "height": Quantity(ny, "px"),
        "voxel_type": Quantity(made.dtype),
    }


def _gen_zarr(context: ProductContext, progress: Progress | None) -> StepResult:
    from tiltflow.disk import size_bytes
    from tiltflow.products.neuroglancer_state import LOCAL_SERVER, write_state
    from tiltflow.products.pyramid import make_pyramid, neuroglancer_metadata

    path = context.path(AssetType.NEUROGLANCER_ZARR)
    made = make_pyramid(context.volume, path, layout=context.layout, threads=context.threads, progress=progress)
    write_state(context.folder, context.name, url=context.url or LOCAL_SERVER + quote(context.name))
    statistics = made.statistics
    numbers = {
        "levels": Quantity(len(made.shapes)),
        "size": Quantity(size_bytes(path), "bytes"),
        "minimum": Quantity(statistics.minimum),
        "maximum": Quantity(statistics.maximum),
        "mean": Quantity(statistics.mean),
        "median": Quantity(statistics.median),
        "median_absolute_deviation": Quantity(statistics.mad),
    }
    return StepResult((context.asset(AssetType.NEUROGLANCER_ZARR, neuroglancer_metadata(statistics)),), numbers, made.notes)


def _pyramid_settings(context: ProductContext) -> object:
    return context.layout, context.url


STEPS: tuple[ProductStep, ...] = (
    ProductStep(
        "gen_tilt_movie",
        (Source.ALIGNED,),
        (AssetType.TILT_MOVIE, AssetType.KEY_IMAGE),
        "the movie of the tilt series, and its middle frame",
        _gen_tilt_movie,
        number=3,
    ),
    # The aligned stack gives the number of views, which is part of the name of the key image.
    ProductStep("gen_thumbs", (Source.ALIGNED, AssetType.KEY_IMAGE), (AssetType.THUMBNAIL,), "the small key image", _gen_thumbs),
    ProductStep(
        "gen_ave_mrc", (Source.VOLUME,), (AssetType.AVERAGED_VOLUME,), "the mean of every five sections", _gen_ave_mrc, number=2
    ),
    ProductStep(
        "gen_recon_movie",
        (AssetType.AVERAGED_VOLUME,),
        (AssetType.REC_MOVIE,),
        "the movie through the averaged volume",
        _gen_recon_movie,
        number=3,
    ),
    ProductStep(
        "gen_ave_8_vol", (AssetType.AVERAGED_VOLUME,), (AssetType.VOLUME,), "the binned copy of the averaged volume", _gen_ave_8_vol
    ),
    ProductStep(
        "gen_zarr",
        (Source.VOLUME,),
        (AssetType.NEUROGLANCER_ZARR,),
        "the pyramid, its display window, and a state of Neuroglancer that shows it",
        _gen_zarr,
        number=3,
        settings=_pyramid_settings,
        beside=STATE_NAMES,
    ),
)
"""Every step, each after those whose products it reads."""
