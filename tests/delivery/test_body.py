"""What the portal's API is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tiltflow.delivery.body import AssetPart, CallbackBody, StatusBody, build_callback, write_callback
from tiltflow.delivery.layout import Layout
from tiltflow.errors import DeliveryError
from tiltflow.work import Asset, AssetType, SeriesResult

SAMPLE = "Lab/PI/Project/Session/Sample"

CONTRACT = (
    '{"files": [{"primaryFilePath": "Lab/PI/Project/Session/Sample/B.mrc", "status": "success", "message": null, '
    '"thumbnailIndex": 0, "title": "B", "fileMetadata": null, '
    '"imageSet": [{"imageName": "B", "imageMetadata": null, '
    '"assets": [{"type": "tiltMovie", "path": "Lab/PI/Project/Session/Sample/B/tiltMov_B.mp4"}]}]}]}'
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(inputs=tmp_path / "Projects", assets=tmp_path / "Assets", folder=tmp_path / "Projects" / SAMPLE, share=tmp_path)


def result(layout: Layout, name: str = "B.mrc", *assets: Asset, **changes: Any) -> SeriesResult:
    source = layout.folder / name
    return SeriesResult(**{"source": source, "status": "success", "assets": assets, "output": layout.output_of(source)} | changes)


MOVIE = Asset(AssetType.TILT_MOVIE, "tiltMov_B.mp4")


def test_a_success_is_told_in_the_words_and_the_order_of_the_contract(layout: Layout) -> None:
    body = build_callback([result(layout, "B.mrc", MOVIE)], layout)
    assert json.dumps(json.loads(body.model_dump_json())) == CONTRACT


def test_the_example_of_the_contract_is_read_and_told_again_unchanged() -> None:
    assert json.dumps(json.loads(CallbackBody.model_validate_json(CONTRACT).model_dump_json())) == CONTRACT


def test_the_types_are_the_closed_set_of_the_contract() -> None:
    types = ["thumbnail", "keyImage", "tiltMovie", "recMovie", "averagedVolume", "volume"]
    types += ["neuroglancerZarr", "neuroglancerPrecomputed"]
    assert [AssetPart(type=kind, path="a").type.value for kind in types] == types
    assert len(AssetType) == len(types)
    with pytest.raises(ValidationError):
        AssetPart.model_validate({"type": "keyThumbnail", "path": "a"})


@pytest.mark.parametrize(
    ("swap", "types"), [(False, ["averagedVolume", "volume", "tiltMovie"]), (True, ["volume", "averagedVolume", "tiltMovie"])]
)
def test_the_types_of_the_two_volumes_are_those_of_the_contract_unless_the_site_has_them_swapped(
    layout: Layout, swap: bool, types: list[str]
) -> None:
    volumes = Asset(AssetType.AVERAGED_VOLUME, "ave_B.mrc"), Asset(AssetType.VOLUME, "avebin8_B.mrc")
    layout = replace(layout, swap_volume_types=swap)
    body = build_callback([result(layout, "B.mrc", *volumes, MOVIE)], layout)
    assets = body.files[0].image_set[0].assets
    assert [(asset.type, asset.path.rsplit("/", 1)[1]) for asset in assets] == [
        *zip(types, ["ave_B.mrc", "avebin8_B.mrc", "tiltMov_B.mp4"], strict=True)
    ]


def test_a_message_and_the_evidence_hold_no_path_of_the_server(layout: Layout) -> None:
    message = f"{layout.folder}/B.mrc: batchruntomo ended at fine alignment; see /lscratch/B-1/align.log"
    bad = result(layout, "B.mrc", status="error", message=message)
    body = build_callback([bad], layout, {bad.source: {"reasons": [f"{layout.assets}/x is missing"]}})
    told = body.files[0]
    assert told.message == f"Projects/{SAMPLE}/B.mrc: batchruntomo ended at fine alignment; see align.log"
    assert told.image_set[0].image_metadata == {"reasons": ["Assets/x is missing"]}
    assert bad.message == message


def test_the_metadata_of_a_pyramid_travel_with_it_and_only_with_it(layout: Layout) -> None:
    metadata = {
        "shader": "Grayscale",
        "dimensions": "XYZ",
        "shaderParameters": {"range": [-3, 12], "window": [-100, 90]},
    }
    pyramid = Asset(AssetType.NEUROGLANCER_ZARR, "B_rec.zarr/0", metadata)
    body = json.loads(build_callback([result(layout, "B.mrc", MOVIE, pyramid)], layout).model_dump_json())
    movie_part, pyramid_part = body["files"][0]["imageSet"][0]["assets"]
    assert list(movie_part) == ["type", "path"]
    assert pyramid_part == {"type": "neuroglancerZarr", "path": f"{SAMPLE}/B/B_rec.zarr/0", "metadata": metadata}


def test_a_bad_series_is_an_error_with_its_message_and_no_assets_beside_good_ones(layout: Layout) -> None:
    message = "B2.mrc is cut short: 12 of 41 views are there; copy the file again."
    bad = result(layout, "B2.mrc", Asset(AssetType.THUMBNAIL, "left.jpg"), status="error", message=message)
    body = json.loads(build_callback([result(layout, "B.mrc", MOVIE), bad], layout).model_dump_json())
    assert [entry["status"] for entry in body["files"]] == ["success", "error"]
    assert body["files"][1] == {
        "primaryFilePath": f"{SAMPLE}/B2.mrc",
        "status": "error",
        "message": message,
        "thumbnailIndex": 0,
        "title": "B2",
        "fileMetadata": None,
        "imageSet": [{"imageName": "B2", "imageMetadata": None, "assets": []}],
    }


def test_a_remark_on_a_success_stays_at_home(layout: Layout) -> None:
    body = build_callback([result(layout, "B.mrc", MOVIE, message="few beads: patches were used")], layout)
    assert body.files[0].message is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"status": "error", "message": None}, "needs a message"),
        ({"status": "error", "message": ""}, "needs a message"),
        ({"assets": ()}, "a success has assets"),
        ({"assets": (Asset(AssetType.VOLUME, "../../secret"),)}, "not a path below the root"),
        ({"assets": (Asset(AssetType.VOLUME, "v.mrc", {"range": [float("nan"), 1.0]}),)}, "cannot be written as JSON"),
        ({"assets": (Asset(AssetType.VOLUME, "v.mrc", {"range": np.float32(1.0)}),)}, "cannot be written as JSON"),
    ],
)
def test_what_breaks_the_contract_is_never_sent(layout: Layout, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(DeliveryError, match=problem):
        build_callback([result(layout, "B.mrc", MOVIE, **changes)], layout)


def test_a_body_cannot_be_changed_or_extended() -> None:
    body = CallbackBody.model_validate_json(CONTRACT)
    with pytest.raises(ValidationError):
        body.files = ()  # type: ignore[misc]
    with pytest.raises(ValidationError):
        CallbackBody.model_validate(json.loads(CONTRACT) | {"token": "x"})


def test_the_separate_messages_are_those_of_the_contract() -> None:
    assert [StatusBody(status=status).model_dump_json() for status in ("running", "success", "error")] == [
        '{"status":"running"}',
        '{"status":"success"}',
        '{"status":"error"}',
    ]


def test_a_name_that_is_not_utf8_is_told_as_well_as_it_can_be(layout: Layout) -> None:
    body = build_callback([result(layout, "\udce9.mrc", status="error", message="bad")], layout)
    assert json.loads(body.model_dump_json())["files"][0]["primaryFilePath"] == f"{SAMPLE}/?.mrc"


def test_the_body_on_disk_is_the_body_that_is_sent(layout: Layout, tmp_path: Path) -> None:
    body = build_callback([result(layout, "B.mrc", MOVIE)], layout)
    path = write_callback(body, tmp_path / "out" / "callback.json")
    assert json.loads(path.read_text(encoding="utf-8")) == json.loads(body.model_dump_json())
    assert [entry.name for entry in path.parent.iterdir()] == ["callback.json"]
