"""Figures of tiltalign's last fit, in raw pixels whatever IMOD prints."""

from __future__ import annotations

import pytest

from tiltflow.engines.imod.fit_figures import FitFigures, parse_fit_figures


@pytest.mark.parametrize(
    ("run", "mean", "sd", "weighted"),
    [("gold", 0.083, 0.049, 0.079), ("patches", 0.232, 0.180, 0.210), ("cryo_patches_robust_fails", 5.351, 5.613, None)],
)
@pytest.mark.parametrize("pixel_size_angstrom", [2.5, 10.0])
def test_imod_4_prints_pixels_whatever_their_size(data, run, mean, sd, weighted, pixel_size_angstrom):
    found = parse_fit_figures((data / "imod_runs" / run / "align.log").read_text(), pixel_size_angstrom)
    assert (found.residual_mean_px, found.residual_sd_px) == (mean, sd)
    assert weighted is None or found.residual_weighted_mean_px == weighted
    assert found.leave_out_px is None


def test_measurements_and_unknowns_are_those_of_the_last_fit(data):
    found = parse_fit_figures((data / "imod_runs" / "gold" / "align.log").read_text(), 10.0)
    assert (found.measurements, found.unknowns) == (1312, 255)


def test_with_local_areas_the_figures_are_their_means_and_not_those_of_the_last_area(data):
    found = parse_fit_figures((data / "imod_runs" / "two_surfaces_local" / "align.log").read_text(), 10.0)
    assert (found.residual_mean_px, found.residual_weighted_mean_px, found.global_residual_mean_px) == (0.149, 0.110, 0.143)
    assert found.residual_sd_px is None
    assert (found.measurements, found.unknowns) == (1508, 258)


def test_imod_5_prints_nanometres_and_a_leave_out_error():
    log = (
        " Residual error mean and sd:    0.500    0.250 nm\n Residual error weighted mean:    0.450 nm\n"
        " Global non-robust leave-out error (100 pts):    0.600 nm weighted    0.550 nm\n"
    )
    found = parse_fit_figures(log, 2.5)
    assert (found.residual_mean_px, found.residual_sd_px) == (2.0, 1.0)
    assert found.residual_weighted_mean_px == pytest.approx(1.8)
    assert found.leave_out_px == pytest.approx(2.4)


def test_pixels_of_a_binned_stack_become_raw_ones():
    assert parse_fit_figures("ImagesAreBinned = 4\nResidual error mean and sd: 0.5 0.1", 2.5).residual_mean_px == 2.0


def test_a_log_that_says_nothing_gives_nothing():
    assert parse_fit_figures("", 10.0) == FitFigures()
