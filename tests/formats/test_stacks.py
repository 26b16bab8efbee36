"""Every container of tilt series behind one function: what each promises, and how one is told from another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tiltflow.errors import FormatError, LocationError
from tiltflow.formats.mrc import MrcWriter
from tiltflow.formats.series import read_series
from tiltflow.formats.stacks import CONTAINERS, ENDINGS, container_of, count_views, find_view_mdoc, open_stack
from tiltflow.model import ImageStack

Views = NDArray[np.int16]


def write_mrc(path: Path, views: Views, pixel: float) -> float:
    with MrcWriter(path, views.shape, np.int16, pixel_size_angstrom=pixel) as out:
        out.write(views)
    return pixel


def write_tiff(path: Path, views: Views, pixel: float) -> float:
    resolution = (1e8 / pixel, 1e8 / pixel)
    tifffile.imwrite(path, views[:, ::-1], photometric="minisblack", resolution=resolution, resolutionunit="CENTIMETER")
    return pixel


WRITERS: dict[str, Callable[[Path, Views, float], float | None]] = {"MRC": write_mrc, "TIFF": write_tiff}
"""A writer for each format, that has nothing to do with its reader: a further container needs one here.

It returns the pixel size that the file tells, ångström; None if the format has no place for it."""


@pytest.fixture(params=[container.name for container in CONTAINERS])
def stack_file(request: pytest.FixtureRequest, images: Views, tmp_path: Path) -> Path:
    """The same five views in each of the formats."""
    container = next(container for container in CONTAINERS if container.name == request.param)
    path = tmp_path / f"B{container.endings[0]}"
    WRITERS[container.name](path, images, 2.5)
    return path


@pytest.fixture
def pixel(stack_file: Path, images: Views, tmp_path: Path) -> float | None:
    """The pixel size that the file tells, if its format can."""
    return WRITERS[container_of(stack_file).name](tmp_path / f"again{stack_file.suffix}", images, 2.5)


def test_every_container_gives_the_same_views_bottom_row_first(stack_file: Path, images: Views) -> None:
    with open_stack(stack_file) as stack:
        assert stack.shape == (5, 6, 4)
        assert stack.dtype == np.dtype(np.int16)
        for view in range(5):
            np.testing.assert_array_equal(stack[view], images[view])


def test_every_container_tells_what_it_is_also_when_it_is_closed(stack_file: Path, pixel: float | None) -> None:
    with open_stack(stack_file) as opened:
        stack: ImageStack = opened
    assert stack.path == stack_file
    assert stack.container == container_of(stack_file).name
    assert stack.pixel_size_angstrom == (pixel and pytest.approx((pixel, pixel)))
    assert stack.labels == ()
    assert stack.acquisition is None
    assert stack.problems == ()
    assert stack.header_name


def test_every_container_gives_the_same_series(stack_file: Path, pixel: float | None) -> None:
    stack_file.with_suffix(".rawtlt").write_text("-40\n-20\n0\n20\n45\n")
    series = read_series(stack_file)
    assert (series.name, series.shape, series.pixel_size_angstrom) == ("B", (5, 6, 4), pytest.approx(pixel or 1.0))
    assert series.tilt_deg.tolist() == [-40, -20, 0, 20, 45]
    assert series.container == container_of(stack_file).name


def test_every_container_counts_its_views_and_a_file_that_is_cut_off_is_never_whole(stack_file: Path) -> None:
    assert count_views(stack_file) == (5, 5)
    content = stack_file.read_bytes()
    stack_file.write_bytes(content[: len(content) // 2])
    try:
        announced, held = count_views(stack_file)
    except FormatError:
        return
    assert held < announced == 5


def test_no_ending_belongs_to_two_containers() -> None:
    assert len(set(ENDINGS)) == len(ENDINGS)


@pytest.mark.parametrize(
    ("name", "content", "container"),
    [
        ("B.st", b"II*\0", "TIFF"),
        ("B.mrc", b"MM\0*", "TIFF"),
        ("B.dat", b"II+\0", "TIFF"),
        ("B.dat", b"MM\0+", "TIFF"),
        ("B.tif", b"", "TIFF"),
        ("B.TIFF", b"no tiff", "TIFF"),
        ("B.st", b"", "MRC"),
        ("B.dat", b"whatever", "MRC"),
    ],
)
def test_the_first_bytes_tell_the_container_before_the_name_does(tmp_path: Path, name: str, content: bytes, container: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert container_of(tmp_path / name).name == container


def test_a_tiff_under_the_name_of_an_mrc_file_is_read(images: Views, tmp_path: Path) -> None:
    write_tiff(tmp_path / "B.st", images, 2.5)
    with open_stack(tmp_path / "B.st") as stack:
        np.testing.assert_array_equal(stack[0], images[0])


@pytest.mark.parametrize("name", ["B.st", "B.tif"])
def test_an_empty_file_is_refused_by_each(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(FormatError, match=r"is empty \(0 bytes\)"):
        open_stack(tmp_path / name)


@pytest.mark.parametrize("name", ["absent.st", "absent.tif", "folder.tif"])
def test_what_cannot_be_opened_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(LocationError, match="cannot be read"):
        open_stack(tmp_path / name)


@pytest.mark.parametrize(
    ("mdocs", "found"),
    [
        ({}, None),
        ({"B.tif.mdoc": "[ZValue = 0]"}, "B.tif.mdoc"),
        ({"B.mdoc": "a = 1\n[ zvalue=0 ]"}, "B.mdoc"),
        ({"B.tif.mdoc": "[ZValue = 0]", "B.mdoc": "[ZValue = 0]"}, "B.tif.mdoc"),
        ({"B.tif.mdoc": "[FrameSet = 0]", "B.mdoc": "[ZValue = 0]"}, "B.mdoc"),
        ({"B.tif.mdoc": "[FrameSet = 0]"}, None),
        ({"B.tif.mdoc": "\n" * 70_000 + "[ZValue = 0]"}, None),  # no program begins like this
        ({"C.mdoc": "[ZValue = 0]"}, None),
    ],
)
def test_the_mdoc_of_a_stack_is_the_one_that_describes_views(tmp_path: Path, mdocs: dict[str, str], found: str | None) -> None:
    for name, text in mdocs.items():
        (tmp_path / name).write_text(text)
    mdoc: Any = find_view_mdoc(tmp_path / "B.tif")
    assert (mdoc and mdoc.name) == found


def test_every_container_has_its_line_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    for container in CONTAINERS:
        assert f"| {container.name} | `{' '.join(container.endings)}` |" in page
