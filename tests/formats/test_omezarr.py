from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from ome_zarr_models import v05
from ome_zarr_models.v04 import BioFormats2Raw, Image

from tiltflow.errors import ParameterError
from tiltflow.formats.omezarr import OmeZarrWriter, multiscales_metadata, ome_xml, plan_levels
from tiltflow.formats.zarrlayout import PyramidLayout, ZarrAxes, ZarrVersion

SIDES = st.integers(1, 5000)


@pytest.fixture
def pyramid(tmp_path: Path) -> Path:
    """A pyramid of 9 x 70 x 515 voxels with two levels below."""
    path = tmp_path / "B_rec.zarr"
    writer = OmeZarrWriter(path, name="B_rec", shape=(9, 70, 515), dtype=np.int16, voxel_size_angstrom=(4.0, 5.0, 6.0))
    for index, level in enumerate(writer.levels):
        for x in range(0, level.shape[2], 128):
            depth, height, width = level.shape
            writer.write(index, np.full((depth, height, min(128, width - x)), index + 1, np.int16), 0, 0, x)
    writer.finish((-10, 300), (-5, 250))
    return path


@given(SIDES, SIDES, SIDES)
def test_levels_halve_until_the_largest_side_is_256(nz: int, ny: int, nx: int) -> None:
    levels = plan_levels((nz, ny, nx))
    assert levels[0].shape == (nz, ny, nx)
    assert max(levels[-1].shape) <= 256
    assert all(max(level.shape) > 256 for level in levels[:-1])
    for level in levels:
        for size, full, factor in zip(level.shape, (nz, ny, nx), level.factors, strict=True):
            # Every voxel of the full resolution is in one of the level, and none of these is empty.
            assert (size - 1) * factor < full <= size * factor


@given(st.tuples(SIDES, SIDES, SIDES), st.tuples(*[st.floats(0.1, 100)] * 3))
def test_all_levels_cover_the_same_space(shape: tuple[int, int, int], voxel_size: tuple[float, float, float]) -> None:
    levels = plan_levels(shape)
    datasets = multiscales_metadata("B", levels, voxel_size)["datasets"]
    for level, dataset in zip(levels, datasets, strict=True):
        scale = np.array(dataset["coordinateTransformations"][0]["scale"])
        translation = np.array(dataset["coordinateTransformations"][1]["translation"])
        np.testing.assert_allclose(scale[2:], np.array(level.factors) * voxel_size[::-1])
        # The low corner of the first voxel lies half a full-resolution voxel before the origin, at every level.
        np.testing.assert_allclose(translation[2:] - scale[2:] / 2, -np.array(voxel_size[::-1]) / 2)
        assert (scale[:2] == 1).all()
        assert (translation[:2] == 0).all()


def test_the_metadata_pass_the_models_of_the_format(pyramid: Path) -> None:
    root = zarr.open_group(pyramid, mode="r")
    assert BioFormats2Raw.from_zarr(root).attributes.bioformats2raw_layout == 3
    (multiscale,) = Image.from_zarr(root["0"]).attributes.multiscales
    assert [axis.name for axis in multiscale.axes] == ["t", "c", "z", "y", "x"]
    assert [axis.unit for axis in multiscale.axes[2:]] == ["angstrom"] * 3
    assert [dataset.path for dataset in multiscale.datasets] == ["0", "1", "2"]


@pytest.mark.parametrize("series_folder", [True, False])
@pytest.mark.parametrize("axes", ["tczyx", "zyx"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_every_layout_passes_the_models_of_its_version(
    tmp_path: Path, version: ZarrVersion, axes: ZarrAxes, series_folder: bool
) -> None:
    layout = PyramidLayout(version=version, axes=axes, series_folder=series_folder, rows="bottom-up")
    writer = OmeZarrWriter(
        tmp_path / "z", name="B", shape=(2, 3, 300), dtype=np.int16, voxel_size_angstrom=(4.0, 5.0, 6.0), layout=layout
    )
    for index, level in enumerate(writer.levels):
        writer.write(index, np.full(level.shape, index + 1, np.int16), 0, 0, 0)
    writer.finish((-10, 300), (-5, 250))
    root = zarr.open_group(tmp_path / "z", mode="r")
    series = root["0"] if series_folder else root
    if version == "0.4":
        content = Image.from_zarr(series).attributes
    else:
        content = v05.Image.from_zarr(series).ome_attributes
        assert series.attrs["ome"]["version"] == "0.5"
        assert series["0"].metadata.dimension_names == tuple(axes)
    (multiscale,) = content.multiscales
    assert [axis.name for axis in multiscale.axes] == list(axes)
    stored = series.attrs["ome"] if version == "0.5" else series.attrs
    assert stored["multiscales"][0]["metadata"]["rows"] == "bottom-up"
    window = stored["omero"]["channels"][0]["window"]
    assert (window["start"], window["end"]) == (-5, 250)
    assert series["1"].shape == (*(1,) * (len(axes) - 3), 1, 2, 150)
    assert (series["1"][...] == 2).all()
    if series_folder:
        models = {"0.4": BioFormats2Raw, "0.5": v05.BioFormats2Raw}
        models[version].from_zarr(root)


def test_a_layout_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"no version '0\.6'; choose 0\.4 or 0\.5"):
        PyramidLayout(version="0.6")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="choose tczyx or zyx"):
        PyramidLayout(axes="xyz")  # type: ignore[arg-type]


def test_the_layout_is_that_of_bioformats2raw(pyramid: Path) -> None:
    assert json.loads((pyramid / ".zattrs").read_text()) == {"bioformats2raw.layout": 3}
    assert json.loads((pyramid / "OME" / ".zattrs").read_text()) == {"series": ["0"]}
    array = json.loads((pyramid / "0" / "0" / ".zarray").read_text())
    assert array["zarr_format"] == 2
    assert array["dimension_separator"] == "/"
    assert array["chunks"] == [1, 1, 9, 70, 128]
    assert array["compressor"]["cname"] == "zstd"
    assert sorted(file.name for file in (pyramid / "0/0/0/0/0/0").iterdir()) == ["0", "1", "2", "3", "4"]


def test_what_is_written_is_read_back(pyramid: Path) -> None:
    series = zarr.open_group(pyramid, mode="r")["0"]
    for index, shape in enumerate([(9, 70, 515), (5, 35, 258), (3, 18, 129)]):
        voxels = series[str(index)][...]
        assert voxels.shape == (1, 1, *shape)
        assert (voxels == index + 1).all()


def test_the_xml_tells_size_type_and_voxel(pyramid: Path) -> None:
    space = {"ome": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}
    pixels = ET.parse(pyramid / "OME" / "METADATA.ome.xml").find("ome:Image/ome:Pixels", space)
    assert pixels is not None
    assert [pixels.get(f"Size{axis}") for axis in "XYZCT"] == ["515", "70", "9", "1", "1"]
    assert [float(pixels.get(f"PhysicalSize{axis}", 0)) for axis in "XYZ"] == [4, 5, 6]
    assert pixels.get("PhysicalSizeXUnit") == "Å"
    assert pixels.get("Type") == "int16"
    assert pixels.find("ome:Channel", space) is not None


def test_a_name_from_the_user_cannot_break_the_xml() -> None:
    text = ome_xml('<img src=x onerror="1">&', (1, 2, 3), np.float32, (1.0, 1.0, 1.0))
    image = ET.fromstring(text)[0]
    assert image.get("Name") == '<img src=x onerror="1">&'
    assert image[0].get("Type") == "float"


def test_an_empty_chunk_is_a_file_all_the_same(tmp_path: Path) -> None:
    writer = OmeZarrWriter(tmp_path / "z", name="B", shape=(2, 3, 4), dtype=np.uint8, voxel_size_angstrom=(1.0, 1.0, 1.0))
    writer.write(0, np.zeros((2, 3, 4), np.uint8), 0, 0, 0)
    assert (tmp_path / "z/0/0/0/0/0/0/0").is_file()


@pytest.mark.parametrize("dtype", [np.complex64, np.float64, np.int64])
def test_types_that_viewers_cannot_show_are_refused(tmp_path: Path, dtype: type) -> None:
    with pytest.raises(ParameterError, match="not supported; choose int8"):
        OmeZarrWriter(tmp_path / "z", name="B", shape=(2, 3, 4), dtype=dtype, voxel_size_angstrom=(1.0, 1.0, 1.0))


@pytest.mark.parametrize("size", [0.0, -1.0, np.nan, np.inf])
def test_a_voxel_size_that_is_not_positive_is_refused(tmp_path: Path, size: float) -> None:
    with pytest.raises(ParameterError, match="not positive"):
        OmeZarrWriter(tmp_path / "z", name="B", shape=(2, 3, 4), dtype=np.int16, voxel_size_angstrom=(1.0, size, 1.0))
    assert not (tmp_path / "z").exists()
