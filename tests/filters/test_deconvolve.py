"""Deconvolution by the CTF: its formulas, a specimen that is known, and volumes larger than the memory."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from tests.filters.specimen import DEFOCUS_NM, PIXEL_NM, ctf_at, filtered, frequency

from tiltflow.errors import FormatError, LocationError, ParameterError, ResourceError
from tiltflow.filters.deconvolve import (
    DeconvolveParams,
    deconvolution_gain,
    deconvolve_file,
    deconvolve_section,
    deconvolve_volume,
)
from tiltflow.filters.volumes import ArrayVolume
from tiltflow.formats.mrc import MrcWriter, open_mrc

PARAMS = DeconvolveParams(falloff=0.7)
CTF = ctf_at(DEFOCUS_NM)


def deconvolved(volume, tmp_path, params=PARAMS, transfer=CTF, **parts):
    out = np.full(volume.shape, np.nan, np.float32)
    deconvolve_volume(ArrayVolume(volume), ArrayVolume(out), PIXEL_NM, transfer, params, scratch=tmp_path, **parts)
    return out


def likeness(volume, truth):
    """Return the correlation with the density, low-passed at 2.5 nm, with its sign: dense matter is dark."""
    s = frequency(truth.shape)
    seen = [filtered(array, np.exp(-0.5 * (s * 2.5) ** 2) * (s > 0.01))[8:-8, 8:-8, 8:-8] for array in (volume, truth)]
    return -float(np.corrcoef(seen[0].ravel(), seen[1].ravel())[0, 1])


@pytest.mark.parametrize(
    ("form", "snr"),
    [("warp", 1000 * np.exp(-5) * 1.0), ("tom", 1000 * np.exp(-5) * 2.0), ("isonet", 10 * np.exp(-5) * 2.0)],
)
def test_the_gain_of_each_program(form, snr):
    """At half of Nyquist, voxels of 1 nm and a CTF of -0.5: the falloff is exp(-5), and the high pass passes all."""
    gain = deconvolution_gain([0.25], 1.0, lambda s: np.full(s.shape, -0.5), DeconvolveParams(form=form))
    assert gain == pytest.approx(0.5 / (0.25 + 1 / snr))


@pytest.mark.parametrize(("f", "passed"), [(0.0, 0.0), (0.01, 0.5), (0.02, 1.0), (0.5, 1.0)])
def test_the_high_pass_of_warp(f, passed):
    """In parts of Nyquist; the SNR follows from the gain."""
    gain = deconvolution_gain(f / 2, 1.0, lambda s: np.full(s.shape, -1.0), DeconvolveParams(falloff=0))
    assert gain == pytest.approx(passed * 1000 / (passed * 1000 + 1))


def test_without_a_high_pass_the_lowest_frequencies_stay():
    none = DeconvolveParams(high_pass_nyquist=0)
    assert deconvolution_gain(0.0, 1.0, lambda s: np.full(s.shape, -1.0), none) == pytest.approx(1000 / 1001)


def test_strength_and_falloff_do_what_they_are_called():
    s = np.array([0.2])
    faint = [deconvolution_gain(s, 1.0, lambda s: np.full(s.shape, -0.1), DeconvolveParams(strength=k))[0] for k in (0.33, 0.67, 1)]
    assert faint == sorted(faint)
    steep = [deconvolution_gain(s, 1.0, lambda s: np.full(s.shape, -0.1), DeconvolveParams(falloff=k))[0] for k in (1.2, 1, 0.7)]
    assert steep == sorted(steep)


def test_of_flipped_phases_the_absolute_value_is_taken():
    s = np.linspace(0, 0.6, 300)
    flipped = deconvolution_gain(s, PIXEL_NM, CTF, replace(PARAMS, phase_flipped=True))
    raw = deconvolution_gain(s, PIXEL_NM, CTF, PARAMS)
    assert raw.min() < 0 <= flipped.min()
    np.testing.assert_allclose(np.abs(raw), flipped)


def test_a_specimen_that_is_known_is_seen_better(imaged, tmp_path):
    before = likeness(imaged.raw, imaged.truth)
    after = likeness(deconvolved(imaged.raw, tmp_path), imaged.truth)
    assert after > before + 0.2


@pytest.mark.parametrize(
    ("wrong", "loss"),
    [(-DEFOCUS_NM, 1.2), (2 * DEFOCUS_NM, 0.2), (DEFOCUS_NM / 2, 0.02)],
    ids=["other sign", "twice", "half"],
)
def test_a_wrong_defocus_loses(imaged, tmp_path, wrong, loss):
    right = likeness(deconvolved(imaged.raw, tmp_path), imaged.truth)
    assert likeness(deconvolved(imaged.raw, tmp_path, transfer=ctf_at(wrong)), imaged.truth) < right - loss


def test_flipped_phases_need_the_absolute_value(imaged, tmp_path):
    flipped = replace(PARAMS, phase_flipped=True)
    before = likeness(imaged.flipped, imaged.truth)
    after = likeness(deconvolved(imaged.flipped, tmp_path, flipped), imaged.truth)
    assert after > before + 0.2
    assert after > likeness(deconvolved(imaged.flipped, tmp_path), imaged.truth) + 0.02


def test_mean_and_standard_deviation_stay(imaged, tmp_path):
    found = deconvolved(imaged.raw, tmp_path)
    assert found.mean(dtype=float) == pytest.approx(imaged.raw.mean(dtype=float), abs=1e-3)
    assert found.std(dtype=float) == pytest.approx(imaged.raw.std(dtype=float), rel=1e-4)


def test_slabs_give_what_the_whole_gives(imaged, tmp_path):
    """The filter written out for the whole volume; slabs of one row, and a padding that the reference has by hand."""
    level = np.mean([imaged.raw[z].mean() for z in np.linspace(0, 71, 9).round().astype(int)])
    volume = imaged.raw - level
    _, ny, nx = volume.shape
    large = np.zeros((176, 196, 210))
    large[:72, 50 : 50 + ny, 50 : 50 + nx] = volume
    for at, n, first in ((1, ny, 50), (2, nx, 50)):
        turned = np.moveaxis(large, at, 0)
        last = len(turned) - first - n
        turned[:first] = turned[first] * np.arange(first)[:, None, None] / first
        turned[first + n :] = turned[first + n - 1] * np.arange(last)[::-1, None, None] / last
    fall = np.linspace(1, -1, 106)[1:-1, None, None]
    large[72:] = large[71] * np.maximum(fall, 0) + large[0] * np.maximum(-fall, 0)
    gain = deconvolution_gain(frequency(large.shape), PIXEL_NM, CTF, PARAMS)
    whole = filtered(large, gain)[:72, 50 : 50 + ny, 50 : 50 + nx]
    whole = imaged.raw.mean(dtype=float) + (whole - whole.mean()) * volume.std() / whole.std()
    found = deconvolved(imaged.raw, tmp_path, memory_bytes=1)
    assert np.abs(found - whole).max() < 2e-4 * whole.std()


@pytest.mark.parametrize("memory_bytes", [1, 3 << 20, 100 << 20])
def test_neither_threads_nor_memory_change_anything(imaged, tmp_path, memory_bytes):
    told = []
    found = deconvolved(imaged.raw, tmp_path, threads=2, memory_bytes=memory_bytes, progress=told.append)
    np.testing.assert_array_equal(found, deconvolved(imaged.raw, tmp_path))
    assert told == sorted(told)
    assert told[-1] == 1
    assert list(tmp_path.iterdir()) == []


def test_the_memory_is_that_of_slabs(tmp_path, rng):
    shape = (200, 256, 256)
    with MrcWriter(tmp_path / "rec.mrc", shape, np.int8, pixel_size_angstrom=8) as out:
        for _ in range(shape[0]):
            out.write(rng.normal(0, 20, shape[1:]).astype(np.float32))
    tracemalloc.start()
    deconvolve_file(tmp_path / "rec.mrc", tmp_path / "view.mrc", 0.8, CTF, PARAMS, memory_bytes=8 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 14 << 20, "the volume as float32 has 50 MiB, its transform 115"


def test_files(tmp_path, imaged):
    source, target = tmp_path / "rec.mrc", tmp_path / "view.mrc"
    with MrcWriter(source, imaged.raw.shape, np.float32, pixel_size_angstrom=8, labels=["a tomogram"], origin=(1, 2, 3)) as out:
        out.write(imaged.raw)
    deconvolve_file(source, target, PIXEL_NM, CTF, PARAMS)
    with open_mrc(target) as made:
        np.testing.assert_array_equal(made.read_block(), deconvolved(imaged.raw, tmp_path))
        assert made.header.pixel_size_angstrom == (8, 8, 8)
        assert made.header.origin == (1, 2, 3)
        assert made.header.labels[0] == "a tomogram"
        assert "viewing only" in made.header.labels[1]
    deconvolve_file(source, target, PIXEL_NM, CTF, PARAMS, dtype=np.int16)
    with open_mrc(target) as made:
        assert made.dtype == np.int16
    assert {path.name for path in tmp_path.iterdir()} == {"rec.mrc", "view.mrc"}


def test_a_section_is_deconvolved_alone(imaged):
    section, truth = imaged.raw[36], imaged.truth[36]
    found = deconvolve_section(section, PIXEL_NM, CTF, PARAMS)
    assert found.shape == section.shape
    assert found.dtype == np.float32
    assert found.mean() == pytest.approx(section.mean(), abs=0.01)
    assert found.std() == pytest.approx(section.std(), rel=1e-4)
    before, after = (-np.corrcoef(image[8:-8, 8:-8].ravel(), truth[8:-8, 8:-8].ravel())[0, 1] for image in (section, found))
    assert after > before + 0.1


def test_what_is_flat_stays_flat(tmp_path):
    flat = np.full((9, 20, 31), 1e4, np.float32)
    np.testing.assert_allclose(deconvolved(flat, tmp_path), 1e4)
    np.testing.assert_allclose(deconvolve_section(flat[0], PIXEL_NM, CTF, PARAMS), 1e4)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"strength": 11}, "strength 11"),
        ({"strength": np.nan}, "strength nan"),
        ({"falloff": -1}, "falloff -1"),
        ({"falloff": np.inf}, "falloff inf"),
        ({"high_pass_nyquist": 1.1}, "1.1 of Nyquist"),
        ({"high_pass_nyquist": -0.1}, "-0.1 of Nyquist"),
        ({"form": "imod"}, "'imod': give one of warp, tom, isonet"),
    ],
)
def test_what_is_out_of_range_is_refused(parts, message):
    with pytest.raises(ParameterError, match=message):
        DeconvolveParams(**parts)


def test_a_ctf_that_is_none_is_refused():
    image = np.zeros((20, 20))
    for transfer in (lambda s: 2 * s, lambda s: np.nan * s, lambda _: np.zeros(3)):
        with pytest.raises(ParameterError, match="from -1 to 1"):
            deconvolve_section(image, 0.5, transfer, PARAMS)
    with pytest.raises(ParameterError, match="voxels of 0 nm"):
        deconvolve_section(image, 0.0, CTF, PARAMS)
    with pytest.raises(ParameterError, match="voxels of -1 nm"):
        deconvolution_gain(0.1, -1.0, CTF, PARAMS)


def test_voxels_that_are_not_finite_are_named(tmp_path, rng):
    volume = rng.normal(0, 1, (5, 20, 20)).astype(np.float32)
    volume[3, 4, 5] = np.nan
    with pytest.raises(ParameterError, match="section 4"):
        deconvolved(volume, tmp_path)
    with pytest.raises(ParameterError, match="not finite"):
        deconvolve_section(volume[3], PIXEL_NM, CTF, PARAMS)
    with MrcWriter(tmp_path / "rec.mrc", volume.shape, np.float32, pixel_size_angstrom=8) as out:
        out.write(volume)
    with pytest.raises(FormatError, match=r"rec\.mrc: section 4"):
        deconvolve_file(tmp_path / "rec.mrc", tmp_path / "view.mrc", PIXEL_NM, CTF, PARAMS)
    assert {path.name for path in tmp_path.iterdir()} == {"rec.mrc"}


def test_places_that_cannot_be_used_are_named(tmp_path, small_series):
    with pytest.raises(LocationError, match=r"none\.mrc"):
        deconvolve_file(tmp_path / "none.mrc", tmp_path / "view.mrc", PIXEL_NM, CTF, PARAMS)
    with pytest.raises(ResourceError, match="nowhere"):
        deconvolve_file(small_series, tmp_path / "view.mrc", PIXEL_NM, CTF, PARAMS, scratch=tmp_path / "nowhere")
