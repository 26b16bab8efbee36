"""Pictures: the right way up, in true proportions, small."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tiltflow.report.measure import measure_volume
from tiltflow.report.pictures import LONGEST_SIDE, scale_bar, small_view, write_slices, write_view


def read(folder, entry):
    with Image.open(folder / entry.path) as picture:
        return np.asarray(picture, float)


def test_the_last_row_of_a_view_is_the_top_of_its_picture(tmp_path):
    view = np.zeros((60, 80))
    view[-20:] = 100
    picture = read(tmp_path, write_view(tmp_path, view, 1.0, 0.0))
    assert picture[:15].mean() > 240
    assert picture[25:45].mean() < 15


def test_slices_along_the_beam_have_z_up_and_true_proportions(tmp_path):
    volume = np.random.default_rng(0).normal(0, 1, (40, 60, 90)).astype(np.float32)
    volume[30:] += 50
    entries = {entry.name: entry for entry in write_slices(tmp_path, measure_volume(volume, 2.0), 2.0)}
    assert (entries["slice_xz"].width, entries["slice_xz"].height) == (90, 40)
    assert (entries["slice_yz"].width, entries["slice_yz"].height) == (60, 40)
    for name in ("slice_xz", "slice_yz"):
        picture = read(tmp_path, entries[name])
        assert picture[:8].mean() > picture[15:30].mean() + 100


def test_a_tall_volume_whose_sections_are_stepped_over_keeps_its_proportions(tmp_path):
    volume = np.random.default_rng(0).normal(0, 1, (1200, 30, 60)).astype(np.float32)
    entry = {entry.name: entry for entry in write_slices(tmp_path, measure_volume(volume, 2.0), 2.0)}["slice_xz"]
    assert LONGEST_SIDE / 2 < entry.height <= LONGEST_SIDE
    assert entry.width == pytest.approx(entry.height * 60 / 1200, abs=1)


def test_large_views_become_small_pictures_and_the_entry_tells_their_size(tmp_path):
    view = np.random.default_rng(0).normal(1000, 50, (900, 2400)).astype(np.int16)
    entry = write_view(tmp_path, view, 0.5, -0.04)
    picture = read(tmp_path, entry)
    assert picture.shape == (entry.height, entry.width) == (180, 480)
    assert "Scale bar 200 nm" in entry.caption


def test_a_picture_to_draw_on_is_small_faded_and_has_few_grey_values(tmp_path):
    view = np.random.default_rng(0).normal(1000, 50, (900, 900)).astype(np.int16)
    behind = small_view(tmp_path / write_view(tmp_path, view, 0.5, 0.0).path)
    assert behind.shape == (320, 320)
    assert behind.max() < 180
    assert len(np.unique(behind)) < 24
    assert small_view(tmp_path) is None


def test_the_bar_is_as_long_as_the_caption_says(tmp_path):
    entry = write_view(tmp_path, np.tile([0.0, 1.0], (200, 100)) * 0 + np.eye(200), 1.0, 0.0)
    picture = read(tmp_path, entry)
    row = picture[200 - 4 - 1]
    assert "Scale bar 50 nm" in entry.caption
    assert (row > 200).sum() == pytest.approx(50, abs=3)


def test_a_view_with_dead_pixels_is_shown(tmp_path):
    view = np.random.default_rng(0).normal(0, 1, (50, 50)).astype(np.float32)
    view[3, 4] = np.nan
    assert read(tmp_path, write_view(tmp_path, view, 1.0, 0.0)).std() > 20


@given(st.floats(min_value=0.1, max_value=1e7))
def test_a_scale_bar_is_a_round_length_of_a_tenth_to_a_quarter_of_the_picture(width_nm):
    bar = scale_bar(width_nm)
    assert 0.0999 * width_nm <= bar <= 0.25 * width_nm
    assert float(f"{bar:.1e}"[:3]) in {1.0, 2.0, 5.0}
