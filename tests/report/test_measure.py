"""The measure of a volume: against volumes whose answer is known."""

import numpy as np
import pytest

from tiltflow.errors import StageError
from tiltflow.report.measure import HISTOGRAM_BINS, SPECTRUM_RINGS, find_specimen, measure_volume, texture


class Sections:
    """A volume that hands out one section at a time, and remembers how many it was asked for."""

    def __init__(self, volume):
        self.shape = volume.shape
        self._volume = volume
        self.read = 0

    def __getitem__(self, section):
        assert isinstance(section, int)
        self.read += 1
        return self._volume[section]


def test_the_specimen_is_found_where_it_is(measured, make):
    assert measured.extent is not None
    assert abs(measured.extent.low - make.specimen[0]) <= 2
    assert abs(measured.extent.high + 1 - make.specimen[1]) <= 2
    assert measured.contrast > 1.3
    assert not measured.extent.cut


def test_a_specimen_that_reaches_the_edge_of_the_volume_is_said_to_be_cut(make):
    found = measure_volume(make.volume(specimen=(40, 64)), make.voxel_nm).extent
    assert found is not None
    assert found.cut
    assert found.high >= 62


def test_noise_alone_is_no_specimen(make):
    found = measure_volume(make.volume(specimen=(0, 0)), make.voxel_nm)
    assert found.extent is None
    assert 1 <= found.contrast < 1.1


def test_gold_does_not_sway_the_texture(make):
    section = make.volume(specimen=(0, 0))[0]
    beads = section.copy()
    beads[20:26, 20:26] = beads[70:76, 60:66] = -200
    assert texture(beads, 2) == pytest.approx(texture(section, 2), rel=0.1)


def test_a_profile_too_short_to_tell_gives_nothing():
    assert find_specimen([1.0, 1.0, 5.0, 5.0, 1.0]) == (None, None)


def test_a_volume_is_read_section_by_section_and_hardly_twice(make):
    volume = Sections(make.volume())
    measure_volume(volume, make.voxel_nm)
    assert volume.read <= 2 * volume.shape[0] + 12


def test_threads_change_nothing(make, measured):
    other = measure_volume(make.volume(), make.voxel_nm, threads=3)
    np.testing.assert_array_equal(other.xz, measured.xz)
    np.testing.assert_array_equal(other.texture, measured.texture)
    np.testing.assert_array_equal(other.histogram, measured.histogram)


def test_slices_are_means_over_ten_nanometres_through_the_middle(measured, make):
    """Voxels are 4 nm: two across, and five for the XY slice, the least."""
    volume = make.volume()
    nz, ny, nx = volume.shape
    np.testing.assert_allclose(measured.xz, volume[:, ny // 2 - 1 : ny // 2 + 1].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(measured.yz, volume[:, :, nx // 2 - 1 : nx // 2 + 1].mean(axis=2), atol=1e-6)
    middle = (measured.extent.low + measured.extent.high) // 2
    assert (measured.xy_section, measured.xy_in_specimen) == (middle, True)
    np.testing.assert_allclose(measured.xy, volume[middle - 2 : middle + 3].mean(axis=0), atol=1e-6)
    assert measured.shape == (nz, ny, nx)


@pytest.mark.parametrize(("voxel_nm", "rows"), [(0.5, 12), (1.0, 10), (2.0, 5), (4.0, 2), (20.0, 1)])
def test_slices_along_z_are_means_over_ten_nanometres_or_an_eighth_of_the_field(make, voxel_nm, rows):
    volume = make.volume()
    start = 96 // 2 - rows // 2
    found = measure_volume(volume, voxel_nm).xz
    np.testing.assert_allclose(found, volume[:, start : start + rows].mean(axis=1), atol=1e-5)


def test_a_specimen_that_is_known_decides_where_the_slice_lies(make):
    found = measure_volume(make.volume(), make.voxel_nm, within_nm=(40.0, 80.0))
    assert found.xy_section == (42 + 51) // 2
    assert measure_volume(make.volume(specimen=(0, 0)), make.voxel_nm).xy_in_specimen is False
    assert measure_volume(make.volume(specimen=(0, 0)), make.voxel_nm, within_nm=(-10.0, 20.0)).xy_in_specimen


@pytest.mark.parametrize(("layer", "shown"), [(None, 31), (20, 31), (31, "aside"), (43, 31)])
def test_the_slice_is_not_the_layer_of_gold(make, layer, shown):
    volume = make.volume()
    if layer is not None:
        rng = np.random.default_rng(1)
        for y, x in rng.integers(8, 80, (14, 2)):
            volume[layer - 2 : layer + 3, y : y + 4, x : x + 4] = -60
    section = measure_volume(volume, make.voxel_nm).xy_section
    if shown == "aside":
        assert 26 <= section <= 38
        assert abs(section - layer) >= 3
    else:
        assert abs(section - shown) <= 2


def test_texture_that_fades_towards_the_surfaces_is_followed_to_them():
    z = np.abs(np.arange(140) - 70)
    added = 2.0 * np.clip(1.1 * (1 - z / 47), 0, 1)  # a specimen of 94 sections
    _, found = find_specimen(np.sqrt(1 + added**2))
    assert found.high + 1 - found.low == pytest.approx(94 * 0.75, abs=8)
    assert not found.cut
    assert not found.least
    half_way = np.sqrt(1 + added**2) > (1 + np.sqrt(1 + added.max() ** 2)) / 2
    assert found.high + 1 - found.low > half_way.sum() + 8


def test_noise_as_strong_as_what_fades_leaves_a_least_thickness():
    rng = np.random.default_rng(0)
    z = np.abs(np.arange(140) - 70)
    profile = np.sqrt(1 + 0.5 * np.clip(1.1 * (1 - z / 47), 0, 1) ** 2) + rng.normal(0, 0.05, 140)
    _, found = find_specimen(profile)
    assert found.least
    assert find_specimen([1.0] * 20 + [2.0] * 30 + [1.0] * 10)[1].least is False


def test_white_noise_has_a_flat_spectrum_of_its_variance():
    volume = np.random.default_rng(1).normal(0, 3, (12, 128, 128)).astype(np.float32)
    power = measure_volume(volume, 1.0).power
    tapered = 9 * np.mean(np.hanning(130)[1:-1] ** 2) ** 2
    assert len(power) == SPECTRUM_RINGS
    assert np.median(power) == pytest.approx(tapered, rel=0.1)
    assert power[8:].std() < 0.2 * power[8:].mean()


def test_a_fixed_pattern_is_a_peak_at_its_frequency():
    stripes = np.cos(2 * np.pi * 0.25 * np.arange(128))[None, None] + np.zeros((12, 128, 1))
    volume = stripes + np.random.default_rng(1).normal(0, 0.1, (12, 128, 128))
    found = measure_volume(volume, 1.0)
    assert found.frequency[found.power.argmax()] == pytest.approx(0.25, abs=0.01)


def test_the_histogram_counts_the_sample_around_its_window(measured):
    low, high = measured.histogram_range
    assert len(measured.histogram) == HISTOGRAM_BINS
    assert low < measured.window[0] < measured.mean < measured.window[1] < high
    centres = low + (np.arange(HISTOGRAM_BINS) + 0.5) * (high - low) / HISTOGRAM_BINS
    assert np.average(centres, weights=measured.histogram) == pytest.approx(measured.mean, abs=0.05)


def test_voxels_that_are_no_numbers_do_not_spread(make):
    volume = make.volume()
    volume[30, 40:45] = np.nan
    volume[31, 3, 3] = np.inf
    found = measure_volume(volume, make.voxel_nm)
    for values in (found.texture, found.power, found.xy, found.xz, found.yz, found.mean, found.sd, found.window):
        assert np.isfinite(values).all()


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 40, 33), (700, 8, 9), (100, 5, 300)])
def test_volumes_of_odd_shapes_are_measured(shape):
    volume = np.random.default_rng(2).normal(0, 100, shape).astype(np.int16)
    found = measure_volume(volume, 2.0)
    assert found.xy.shape == shape[1:]
    assert found.xz.shape == (-(-shape[0] // found.z_step), shape[2])
    assert len(found.texture) == len(found.sections) <= 100


def test_a_constant_volume_is_named_as_empty():
    with pytest.raises(StageError, match="voxels sampled are 7: the reconstruction is empty"):
        measure_volume(np.full((10, 32, 32), 7, np.int16), 1.0)


def test_whole_numbers_make_no_comb_in_the_histogram():
    volume = np.random.default_rng(4).normal(100, 70, (20, 64, 64)).round().astype(np.int16)
    counts = measure_volume(volume, 1.0).histogram.astype(float)
    middle = counts[counts > 0.3 * counts.max()]
    assert np.abs(np.diff(middle)).mean() < 0.08 * counts.max()
