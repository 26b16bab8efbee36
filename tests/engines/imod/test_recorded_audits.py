"""What the audit claims of alignments that IMOD 4.8.2 made, against their true errors: the specimen and its geometry are simulated."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tiltflow.align.audit import AuditParams, audit_alignment
from tiltflow.engines.imod.tracked_points import read_tracked_points
from tiltflow.errors import FormatError
from tiltflow.formats.tilts import read_tilts
from tiltflow.formats.transforms import read_transforms
from tiltflow.model import Alignment
from tiltflow.preprocess.preparation import RepairingStack
from tiltflow.report.checks import alignment_checks
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import SimulatedSeries, simulate
from tiltflow.work import Trust

SERIES = {
    "g33": SimulationParams(seed=33, beads=25),
    "two": SimulationParams(seed=32, beads=40, two_surfaces=True, thickness_px=120),
}
PIXEL_ANGSTROM = 10.0


@cache
def simulated(name: str) -> SimulatedSeries:
    """Return the series that IMOD was run on, but for the noise of its images."""
    return simulate(SERIES[name], threads=2)


def recorded(data, run: str, name: str, method: str):
    folder = data / "imod_runs" / run
    alignment = Alignment(read_transforms(folder / f"{name}.xf"), read_tilts(folder / f"{name}.tlt"), np.ones(41, bool), method)
    kind = {"gold": "bead", "patches": "patch"}.get(method)
    tracks = None
    if kind:
        tracks = read_tracked_points(folder / f"{name}.resid", folder / f"{name}.prexg", (512, 512), 1.0, kind)
    return alignment, tracks


def test_tracked_points_are_the_beads_of_the_raw_images(data):
    _, tracks = recorded(data, "gold", "g33", "gold")
    truth = simulated("g33").truth.probes_xy
    assert tracks.xy.shape == (16, 41, 2)
    nearest = np.linalg.norm(tracks.xy[:, 20, None] - truth[20], axis=-1).argmin(axis=1)
    assert len(set(nearest)) == 16
    error = np.linalg.norm(tracks.xy - truth[:, nearest].swapaxes(0, 1), axis=-1)
    assert np.nanmax(error) < 0.6
    assert np.sqrt(np.nanmean(error**2)) < 0.15


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("183.28 250.35 0 -0.09", "'183.28 250.35 0 -0.09' is not a point"),
        ("183.28 250.35 41 0 0", "a view below 41"),
        ("a b 0 0 0", "line 3"),
        ("nan 1 0 0 0", "line 3"),
    ],
)
def test_a_broken_list_of_points_is_refused_by_its_line(data, tmp_path, line, said):
    folder = data / "imod_runs" / "gold"
    broken = tmp_path / "B.resid"
    broken.write_text("\n".join([*(folder / "g33.resid").read_text().splitlines()[:2], line]))
    with pytest.raises(FormatError, match=said):
        read_tracked_points(broken, folder / "g33.prexg", (512, 512), 1.0, "bead")


@pytest.mark.whole
@pytest.mark.parametrize(
    ("run", "name", "method", "within", "tracks", "level"),
    [
        pytest.param("gold", "g33", "gold", 4 / 3, 16, Trust.GOOD, id="gold"),
        pytest.param("patches", "g33", "patches", 4 / 3, 4, Trust.DOUBTFUL, id="patches"),
        pytest.param("fiducialless", "g33", "coarse", 2, None, Trust.GOOD, id="fiducialless"),
        pytest.param("two_surfaces_local", "two", "gold", 4 / 3, 20, Trust.GOOD, id="two surfaces"),
        pytest.param("cryo_patches_robust_fails", "two", "patches", 4 / 3, 64, Trust.POOR, id="cryo, patches, robust fit failed"),
    ],
)
def test_the_claimed_error_of_a_recorded_run_is_the_true_one(data, run, name, method, within, tracks, level):
    series = simulated(name)
    alignment, points = recorded(data, run, name, method)
    true_px = series.error_of(alignment).rms_px
    audited = audit_alignment(
        RepairingStack(series.images),
        alignment,
        series.truth.nominal_deg,
        -8.0,
        PIXEL_ANGSTROM,
        AuditParams(gold_nm=10.0),
        tracks=points,
        threads=2,
    ).evidence
    print(f"{run}: true {true_px:.3f} px, claimed {audited.error_px:.3f} px, ratio {audited.error_px / true_px:.2f}")
    least = 2 / 3 if within < 2 else 1 / 2
    assert least < audited.error_px / true_px < within
    assert audited.tracks_used == tracks
    checks = list(alignment_checks_of(audited))
    assert max(checks, key=[Trust.GOOD, Trust.DOUBTFUL, Trust.POOR].index) is level


def alignment_checks_of(evidence):
    from tiltflow.record import AlignmentEntry
    from tiltflow.work import Thresholds

    entry = AlignmentEntry(
        method="gold",
        tilt_deg=[],
        included=[],
        shift_px=[],
        error_px=evidence.error_px,
        leave_out_px=evidence.leave_out_px,
        residual_mean_px=evidence.residual_mean_px,
    )
    return [check.level for check in alignment_checks(entry, Thresholds(), 1.0)]
