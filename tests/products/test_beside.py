from __future__ import annotations

from pathlib import Path

import pytest

from tiltflow.products.beside import size_bytes, written_beside


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "movie.mp4"
    with written_beside(path) as beside:
        beside.write_bytes(b"12345")
        assert not path.exists()
        assert beside.suffix == ".mp4"
    assert path.read_bytes() == b"12345"
    assert size_bytes(path) == 5
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_replaces_a_former_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "B_rec.zarr"
    for name in ("old", "new"):
        with written_beside(path) as beside:
            beside.mkdir()
            (beside / name).write_text(name)
    assert [entry.name for entry in path.iterdir()] == ["new"]
    assert size_bytes(path) == 3
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder", [True, False])
def test_after_an_exception_nothing_is_left_and_the_former_product_stays(tmp_path: Path, folder: bool) -> None:
    path = tmp_path / "product"
    path.write_text("former")
    with pytest.raises(RuntimeError, match="disk"), written_beside(path) as beside:  # noqa: PT012 - what is written before matters
        if folder:
            beside.mkdir()
            (beside / "part").write_text("half")
        else:
            beside.write_text("half")
        raise RuntimeError("the disk broke")
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]
