from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tiltflow.errors import StageError
from tiltflow.products.images import make_thumbnail, write_jpeg


def test_a_jpeg_keeps_the_picture_the_right_way_up(tmp_path: Path) -> None:
    picture = np.zeros((40, 60), np.uint8)
    picture[:10] = 250
    write_jpeg(tmp_path / "key.jpg", picture)
    with Image.open(tmp_path / "key.jpg") as image:
        assert image.size == (60, 40)
        assert image.mode == "L"
        back = np.asarray(image).astype(int)
    assert abs(back[:8].mean() - 250) < 2
    assert back[16:].mean() < 2


@pytest.mark.parametrize(
    ("shape", "size"), [((600, 900), (300, 200)), ((4000, 300), (22, 300)), ((80, 96), (96, 80)), ((1, 2000), (300, 1))]
)
def test_a_thumbnail_fits_300_and_is_never_enlarged(tmp_path: Path, shape: tuple[int, int], size: tuple[int, int]) -> None:
    write_jpeg(tmp_path / "key.jpg", np.full(shape, 99, np.uint8))
    assert make_thumbnail(tmp_path / "key.jpg", tmp_path / "small.jpg") == size
    with Image.open(tmp_path / "small.jpg") as image:
        assert image.size == size


def test_a_thumbnail_shows_the_picture_with_sharper_edges(tmp_path: Path) -> None:
    y, x = np.mgrid[:600, :600]
    disc = np.where((x - 300) ** 2 + (y - 200) ** 2 < 120**2, 170, 80).astype(np.uint8)
    write_jpeg(tmp_path / "key.jpg", disc, quality=95)
    make_thumbnail(tmp_path / "key.jpg", tmp_path / "small.jpg")
    with Image.open(tmp_path / "small.jpg") as image:
        small = np.asarray(image).astype(int)
    assert abs(small[100, 150] - 170) < 4
    assert abs(small[250, 150] - 80) < 4
    # Sharpening overshoots on both sides of an edge.
    row = small[100]
    assert row.max() > 176
    assert row.min() < 74


def test_a_key_image_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key.jpg").write_text("not a picture")
    with pytest.raises(StageError, match=r"key\.jpg: cannot be read as a picture"):
        make_thumbnail(tmp_path / "key.jpg", tmp_path / "small.jpg")


@pytest.mark.parametrize("make", ["key image", "thumbnail"])
def test_the_library_never_writes_to_a_path_as_it_takes_a_short_write_for_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: str
) -> None:
    key = tmp_path / "key.jpg"
    write_jpeg(key, np.zeros((40, 40), np.uint8))
    targets = []
    save = Image.Image.save
    monkeypatch.setattr(
        Image.Image, "save", lambda picture, to, *args, **how: targets.append(to) or save(picture, to, *args, **how)
    )
    write_jpeg(key, np.zeros((40, 40), np.uint8)) if make == "key image" else make_thumbnail(key, tmp_path / "thumb.jpg")
    assert targets
    assert {type(target).__name__ for target in targets} == {"BytesIO"}
