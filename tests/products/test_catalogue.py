from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tiltflow.errors import ParameterError, ResourceError, StageError
from tiltflow.products.catalogue import (
    PRODUCTS,
    STEPS,
    ProductContext,
    ProductStep,
    Source,
    StepResult,
    make_products,
    product,
)
from tiltflow.products.context import STATE_NAMES
from tiltflow.products.images import write_jpeg
from tiltflow.work import Asset, AssetType

Series = tuple[Path, Path]


@pytest.fixture
def context(series: Series, tmp_path: Path) -> ProductContext:
    """What the steps are given for a small series."""
    return ProductContext("B", *series, tmp_path / "B", threads=2)


@pytest.mark.parametrize(
    ("asset_type", "path"),
    [
        ("tiltMovie", "tiltMov_TS_01.mp4"),
        ("keyImage", "TS_01_ali.020.jpg"),
        ("thumbnail", "keyimg_TS_01_s.jpg"),
        ("averagedVolume", "ave_TS_01.mrc"),
        ("recMovie", "keyMov_TS_01.mp4"),
        ("volume", "avebin8_TS_01.mrc"),
        ("neuroglancerZarr", "TS_01_rec.zarr/0"),
    ],
)
def test_products_have_the_names_that_portals_know(asset_type: str, path: str) -> None:
    assert product(AssetType(asset_type)).asset_path("TS_01", 41) == path


def test_the_key_image_is_numbered_as_mrc2tif_numbers() -> None:
    key_image = product(AssetType.KEY_IMAGE)
    assert [key_image.file_name("B", views) for views in (1, 2, 999, 1000, 2401)] == [
        "B_ali.000.jpg",
        "B_ali.001.jpg",
        "B_ali.499.jpg",
        "B_ali.0500.jpg",
        "B_ali.1200.jpg",
    ]


def test_every_type_but_the_reserved_one_is_made_once() -> None:
    made = [asset_type for step in STEPS for asset_type in step.makes]
    assert made == [entry.asset_type for entry in PRODUCTS]
    assert set(AssetType) - set(made) == {AssetType.NEUROGLANCER_PRECOMPUTED}
    with pytest.raises(ParameterError, match="neuroglancerPrecomputed"):
        product(AssetType.NEUROGLANCER_PRECOMPUTED)


def test_each_step_comes_after_those_whose_products_it_reads() -> None:
    there: set[Source | AssetType] = set(Source)
    for step in STEPS:
        assert set(step.reads) <= there
        there |= set(step.makes)


def test_all_products_are_where_their_assets_say(context: ProductContext) -> None:
    told: list[float] = []
    steps: list[tuple[ProductStep, StepResult]] = []
    assets = make_products(context, on_step=lambda step, result: steps.append((step, result)), progress=told.append)
    assert [asset.type for asset in assets] == [entry.asset_type for entry in PRODUCTS]
    assert all((context.folder / asset.path).exists() for asset in assets)
    assert {path.name for path in context.folder.iterdir()} == {
        *(asset.path.removesuffix("/0") for asset in assets),
        *(pattern.format(name="B") for pattern in STATE_NAMES),
    }
    assert [step for step, _ in steps] == list(STEPS)
    for step, result in steps:
        assert [asset.type for asset in result.assets] == list(step.makes)
        assert result.numbers
    assert told == sorted(told)
    assert told[-1] == 1
    zarr = next(asset for asset in assets if asset.type is AssetType.NEUROGLANCER_ZARR)
    assert zarr.metadata is not None
    assert set(zarr.metadata) == {"shader", "dimensions", "shaderParameters"}


def test_a_step_runs_alone_in_another_process(context: ProductContext) -> None:
    write_jpeg(context.path(AssetType.KEY_IMAGE), np.full((66, 90), 99, np.uint8))
    step = next(step for step in STEPS if step.name == "gen_thumbs")
    code = (
        "import pickle, sys; step, given = pickle.load(sys.stdin.buffer); sys.stdout.buffer.write(pickle.dumps(step.make(given)))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps((step, context)), capture_output=True, check=True)
    result: StepResult = pickle.loads(done.stdout)
    assert [asset.path for asset in result.assets] == ["keyimg_B_s.jpg"]
    assert context.path(AssetType.THUMBNAIL).exists()


def test_steps_and_results_can_be_sent_to_another_machine(context: ProductContext) -> None:
    for step in STEPS:
        assert pickle.loads(pickle.dumps(step)) == step
    assert pickle.loads(pickle.dumps(context)) == context
    result = StepResult((Asset(AssetType.VOLUME, "v.mrc"),))
    assert pickle.loads(pickle.dumps(result)) == result


def test_a_step_names_the_file_it_misses_and_who_makes_it(context: ProductContext) -> None:
    movie = next(step for step in STEPS if step.name == "gen_recon_movie")
    with pytest.raises(StageError, match=r"gen_recon_movie needs the averagedVolume .*ave_B\.mrc.*run gen_ave_mrc first"):
        movie.make(context)
    context.volume.unlink()
    with pytest.raises(StageError, match=r"gen_zarr needs the reconstruction .*B_rec\.mrc.*the engine makes it"):
        next(step for step in STEPS if step.name == "gen_zarr").make(context)


@pytest.mark.parametrize("step", STEPS, ids=[step.name for step in STEPS])
def test_a_folder_that_cannot_be_made_is_an_expected_error(context: ProductContext, step: ProductStep) -> None:
    make_products(context)
    with pytest.raises(ResourceError, match=r"/proc"):
        replace(step, reads=()).make(replace(context, folder=Path("/proc/nowhere")))


def test_running_twice_replaces_the_products(context: ProductContext) -> None:
    first = make_products(context)
    assert make_products(context) == first
    assert {path.name for path in context.folder.iterdir()} == {
        *(asset.path.removesuffix("/0") for asset in first),
        *(pattern.format(name="B") for pattern in STATE_NAMES),
    }


def test_importing_the_catalogue_is_light() -> None:
    code = (
        "import sys, tiltflow.products.catalogue; print([m for m in ('av', 'zarr', 'PIL', 'numba', 'mrcfile') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
