"""Beads erased from the views of a stack, and what is left of them in the volume."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.erase.patches import discs
from tiltflow.erase.positions import VolumeFrame, tracked_beads
from tiltflow.erase.views import EraseParams, erase_stack, erase_view
from tiltflow.errors import ParameterError, StageError

PARAMS = EraseParams(diameter_nm=10.0)


def erased(stack, points, pixel_nm=1.0, threads=1, **parts):
    params = EraseParams(**{"diameter_nm": 10.0, **parts})
    return list(erase_stack(stack, points, pixel_nm, params, threads=threads))


@pytest.mark.parametrize("fill", ["texture", "flat"])
@pytest.mark.parametrize("expand", [0, 2, 3])
def test_pixels_outside_the_patches_stay_bit_identical(golden, fill, expand):
    for view, raw, points in zip(
        erased(golden.raw, golden.points, fill=fill, expand=expand), golden.raw, golden.points, strict=True
    ):
        changed = view.image != raw
        assert view.image.dtype == raw.dtype
        assert np.count_nonzero(changed) <= view.pixels
        assert view.pixels - np.count_nonzero(changed) < 5, "a new value may be the old one"
        if not expand:
            assert not changed[~discs(points, raw.shape, 7.0)].any()


def test_it_is_told_how_many_beads_and_pixels_were_erased(golden):
    points = [np.vstack([each, [[-50.0, 20.0], [np.nan, np.nan], [-6.0, 100.0]]]) for each in golden.points]
    points[1] = points[1][:4]
    points[2] = np.zeros((0, 2))
    views = erased(golden.raw, points)
    assert [view.beads for view in views] == [11, 4, 0]
    assert views[1].pixels == np.count_nonzero(discs(points[1], golden.raw[1].shape, 7.0))
    assert views[2].pixels == 0
    np.testing.assert_array_equal(views[2].image, golden.raw[2])


def test_two_threads_and_another_order_of_the_points_give_the_same(golden):
    one, two = (erased(golden.raw, golden.points, threads=threads) for threads in (1, 2))
    turned = erased(golden.raw, [points[::-1] for points in golden.points])
    fewer = erased(golden.raw, [points[:5] for points in golden.points])
    for a, b, c, d, points in zip(one, two, turned, fewer, golden.points, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.image, c.image)
        alone = discs(points[6:7], a.image.shape, 7.0) & ~discs(points[5:6], a.image.shape, 12.0)
        assert (d.image[alone] != a.image[alone]).any()


def test_noise_depends_on_seed_view_and_place(golden):
    points = golden.points[0]
    images = [
        erase_view(golden.raw[0], points, 7.0, EraseParams(diameter_nm=10.0, seed=s), view_number=v).image
        for s, v in ((0, 0), (1, 0), (0, 1))
    ]
    mask = discs(points, golden.raw[0].shape, 7.0)
    noise = [image[mask] - 1000.0 for image in images]
    assert all(abs(np.corrcoef(noise[0], other)[0, 1]) < 0.3 for other in noise[1:])


def test_two_beads_of_a_view_have_noise_of_their_own(rng):
    points = [[60.0, 60.0], [140.0, 140.0]]
    image = erase_view(rng.normal(0, 1, (200, 200)), points, 7.0, PARAMS).image
    one, other = (image[discs([point], image.shape, 7.0)] for point in points)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.3


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
def test_views_keep_their_type_and_are_not_changed(rng, dtype):
    view = np.clip(rng.normal(3, 4, (50, 50)), 0, 255).astype(dtype)
    before = view.copy()
    made = erase_view(view, [[25.0, 25.0]], 8.0, PARAMS).image
    assert made.dtype == dtype
    assert made.min() >= (0 if dtype == np.uint8 else -20)
    np.testing.assert_array_equal(view, before)


def test_diameter_is_in_nanometres_and_the_extra_in_pixels_of_the_stack():
    assert EraseParams(diameter_nm=10.0, extra_diameter_px=0.0).radius_px(0.5) == 10.0
    assert EraseParams(diameter_nm=10.0, extra_diameter_px=4.0).radius_px(2.0) == 4.5


def test_progress_and_the_numbers_of_lists_and_views(golden):
    told = []
    list(erase_stack(golden.raw, golden.points, 1.0, PARAMS, progress=told.append))
    assert told[-1] == 1.0
    with pytest.raises(ParameterError, match="2 views for a stack of 3"):
        list(erase_stack(golden.raw, golden.points[:2], 1.0, PARAMS))


@pytest.mark.parametrize(
    "parts",
    [{"diameter_nm": 0.0}, {"diameter_nm": float("nan")}, {"expand": -1}, {"ring_px": (3.0, 3.0)}, {"ring_px": (-1.0, 3.0)}],
    ids=str,
)
def test_parameters_out_of_range_are_refused(parts):
    with pytest.raises(ParameterError):
        EraseParams(**{"diameter_nm": 10.0, **parts})


def test_beads_without_a_size_and_views_without_anything_else_are_refused(golden):
    with pytest.raises(ParameterError, match="larger extra diameter"):
        erased(golden.raw, golden.points, extra_diameter_px=-10.0)
    with pytest.raises(StageError, match="all of a view"):
        erased(golden.raw[:1], [[[96.0, 96.0]]], diameter_nm=300.0)


@pytest.fixture(scope="module")
def left(series):
    """Return what gold as it is, flat discs and textures leave: profiles and noise at the beads, over the noise far from them."""
    shape = series.gold.shape
    beads = tracked_beads(series.alignment, shape, shape)
    bare = series.volume(series.bare)
    places = VolumeFrame(shape=bare.shape, x_axis_tilt_deg=series.alignment.x_axis_tilt_deg).voxels(beads.points)
    y, x = np.mgrid[: shape[1], : shape[2]] + 0.5
    nearest = np.min([np.hypot(x - px, y - py) for px, py, _ in places], axis=0)
    sd = bare[:, nearest > 20].std()
    z = np.arange(len(bare)) + 0.5
    stacks = {"gold": series.gold, "bare": series.bare}
    for fill in ("flat", "texture"):
        stacks[fill] = np.stack([view.image for view in erased(series.gold, list(beads.xy), fill=fill)])
    out = {}
    for name, stack in stacks.items():
        made = series.volume(stack)
        usual = made[:, nearest > 20].mean(axis=1)
        columns = [made[:, np.hypot(x - px, y - py) <= 5] for px, py, _ in places]
        profiles = np.array([column.mean(axis=1) - usual for column in columns]) / sd
        cores = np.mean([column[np.abs(z - pz) <= 5].std() for column, (_, _, pz) in zip(columns, places, strict=True)]) / sd
        ghost = np.mean([profile[np.abs(z - pz) <= 5].mean() for profile, (_, _, pz) in zip(profiles, places, strict=True)])
        out[name] = np.sqrt(np.mean(profiles**2)), ghost, cores
    return out


def test_textures_leave_no_streaks_in_the_volume(left):
    assert left["gold"][0] > 1.0
    assert left["texture"][0] < 0.4
    assert left["texture"][0] < 1.3 * left["bare"][0], "as in a specimen without gold"


def test_textures_leave_neither_a_ghost_nor_a_hole(left):
    assert abs(left["gold"][1]) > 4
    assert abs(left["texture"][1]) < 0.3


def test_textures_leave_the_noise_of_the_volume_and_flat_discs_do_not(left):
    assert left["texture"][2] == pytest.approx(left["bare"][2], rel=0.15)
    assert left["flat"][2] < 0.5 * left["bare"][2]
