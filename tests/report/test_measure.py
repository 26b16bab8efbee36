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


def test_slices_are_means_of_five_through_the_middle(make, measured):
    volume = make.volume()
    nz, ny, nx = volume.shape
    np.testing.assert_allclose(measured.xz, volume[:, ny // 2 - 2 : ny // 2 + 3].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(measured.yz, volume[:, :, nx // 2 - 2 : nx // 2 + 3].mean(axis=2), atol=1e-6)
    middle = (measured.extent.low + measured.extent.high) // 2
    np.testing.assert_allclose(measured.xy, volume[middle - 2 : middle + 3].mean(axis=0), atol=1e-6)
    assert measured.shape == (nz, ny, nx)


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
