"""How many views have arrived, of real files in every state that a microscope leaves them in."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from tests.conftest import write_small_series

from tiltflow.watch.arrival import read_arrival
from tiltflow.watch.sight import Lookout

tifffile = pytest.importorskip("tifffile")


def mdoc(views: int) -> str:
    return "PixelSpacing = 10\n" + "".join(f"[ZValue = {z}]\nTiltAngle = {3 * z - 6:.2f}\n" for z in range(views))


def arrival_of(folder):
    (sight,) = Lookout(folder).look()
    return read_arrival(sight)


@pytest.fixture
def stack(folder):
    """A series of 5 views of 64 x 64 pixels of 2 bytes."""
    return write_small_series(folder / "B.st")


VIEW = 64 * 64 * 2


@pytest.mark.parametrize(
    ("missing", "held"), [(0, 5), (1, 4), (VIEW, 4), (VIEW + 1, 3), (4 * VIEW, 1), (5 * VIEW, 0), (5 * VIEW + 10, 0)]
)
def test_whole_views_of_those_that_the_header_announces(stack, folder, missing, held):
    content = stack.read_bytes()
    stack.write_bytes(content[: len(content) - missing])
    arrival = arrival_of(folder)
    assert (arrival.held, arrival.announced, arrival.by) == (held, 5, "its header")
    assert arrival.lacks == (f"{held} of 5 views of its header have arrived" if held < 5 else "")


def test_a_stack_that_lost_its_extended_header_is_as_whole_as_its_reading_has_it(stack, folder):
    content = stack.read_bytes()
    extended = int.from_bytes(content[92:96], "little")
    assert extended > 0
    stack.write_bytes(content[:1024] + content[1024 + extended :])
    assert arrival_of(folder).lacks == ""


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "is empty"),
        (b"\0" * 3000, "is not an MRC file"),
        (b"\0" * 100, "header of an MRC file alone"),
        (b"text " * 500, "text"),
    ],
)
def test_a_file_without_a_header_waits_with_the_words_of_its_reading(folder, content, word):
    (folder / "B.mrc").write_bytes(content)
    arrival = arrival_of(folder)
    assert arrival.lacks.startswith("it cannot be read yet: ")
    assert word in arrival.lacks


@pytest.mark.parametrize("name", ["B.st.mdoc", "B.mdoc", "B.mrc.mdoc"])
def test_an_mdoc_that_lists_more_views_is_what_is_waited_for(stack, folder, name):
    (folder / name).write_text(mdoc(31))
    assert arrival_of(folder).lacks == f"5 of 31 views of {name} have arrived"


def test_of_two_mdocs_the_one_counts_that_the_series_is_read_from(stack, folder):
    (folder / "B.st.mdoc").write_text(mdoc(5))
    (folder / "B.mdoc").write_text(mdoc(31))
    assert arrival_of(folder).lacks == ""


@pytest.mark.parametrize("text", [mdoc(3), mdoc(5), "PixelSpacing = 10\n", "[ZValue = 0"])
def test_an_mdoc_that_lists_no_more_views_keeps_nothing_waiting(stack, folder, text):
    (folder / "B.st.mdoc").write_text(text)
    assert arrival_of(folder).lacks == ""


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ("\n".join(map(str, range(31))), "5 of 31 views of B.rawtlt have arrived"),
        (" ".join(map(str, range(31))), "5 of 31 views of B.rawtlt have arrived"),
        ("\n".join(f"{n} {3 * n}" for n in range(31)), "5 of 31 views of B.rawtlt have arrived"),
        ("\n".join(map(str, range(5))) + "\n\n", ""),
        ("", ""),
    ],
)
def test_a_list_of_angles_says_how_many_views_there_will_be(stack, folder, text, lacks):
    (folder / "B.rawtlt").write_text(text)
    assert arrival_of(folder).lacks == lacks


def test_the_largest_number_counts_and_a_file_is_named_rather_than_the_header(stack, folder):
    (folder / "B.st.mdoc").write_text(mdoc(31))
    (folder / "B.rawtlt").write_text("\n".join(map(str, range(41))))
    assert arrival_of(folder).lacks == "5 of 41 views of B.rawtlt have arrived"
    (folder / "B.rawtlt").unlink()
    content = stack.read_bytes()
    (folder / "B.st.mdoc").write_text(mdoc(5))
    stack.write_bytes(content[:-VIEW])
    assert arrival_of(folder).by == "B.st.mdoc"


def test_a_tiff_that_is_cut_off_waits_and_a_whole_one_does_not(folder):
    tifffile.imwrite(folder / "B.tif", np.ones((5, 32, 32), np.uint16), photometric="minisblack")
    (folder / "B.tif.mdoc").write_text(mdoc(5))
    assert arrival_of(folder).lacks == ""
    content = (folder / "B.tif").read_bytes()
    (folder / "B.tif").write_bytes(content[:-500])
    assert arrival_of(folder).lacks.startswith("it cannot be read yet: ")


def test_what_is_gone_before_it_is_read_waits(stack, folder):
    (sight,) = Lookout(folder).look()
    shutil.move(stack, folder.parent / "B.st")
    assert "cannot be read" in read_arrival(sight).lacks
