"""The audit of an alignment by the points that it was computed from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.align.listener import Listener

from tiltflow.align import audit
from tiltflow.align.audit import AuditParams, audit_alignment
from tiltflow.align.bundle import SolveParams
from tiltflow.align.patches import PatchResult
from tiltflow.align.points import left_over
from tiltflow.model import Alignment, Evidence, Tracks


def audited(series, tracks, listener=None):
    truth = series.truth
    true = Alignment(truth.transforms(), truth.true_deg, np.ones(len(truth.true_deg), bool), "patches")
    more = {} if listener is None else {"observer": listener}
    return audit_alignment(series.images, true, truth.nominal_deg, -8.0, 10.0, AuditParams(), tracks=tracks, **more).evidence


@pytest.mark.parametrize("tracked_anew", [False, True], ids=["points of the other program", "patches of the audit"])
def test_a_wild_track_does_not_condemn_a_true_alignment(wild_track, monkeypatch, tracked_anew):
    series, tracks = wild_track
    good = tracks.without(np.arange(len(tracks.xy)) == 12)

    def evidence(of: Tracks, listener=None):
        if not tracked_anew:
            return audited(series, of, listener)
        found = PatchResult(of, np.ones(21), np.zeros((21, 2, 3)), np.zeros(21), 0.0, error_px=0.05, error_limit_px=0.1, notes=())
        monkeypatch.setattr(audit, "track_patches", lambda *_, **__: found)
        return audited(series, None, listener)

    listener = Listener()
    found = evidence(tracks, listener)
    assert found.error_px == pytest.approx(evidence(good).error_px)
    assert found.error_px < 0.15
    assert found.leave_out_px == evidence(good).leave_out_px
    assert not found.trust_warnings
    assert "12 patch" in found.notes[-1]
    assert [text for text in listener.warnings + listener.notes if "left out" in text] == [
        "left out, as they lie far above or below the others: 1 of 13 tracks"
    ]


@pytest.mark.parametrize("made_with", [False, True], ids=["an alignment without stretch", "an alignment with stretch"])
def test_of_a_specimen_that_stretches_the_error_is_known_if_the_reference_may_stretch(point_case, made_with):
    case = point_case(stretch=0.01, skew_deg=0.3, tracks=20)
    solution = case.solve(SolveParams(stretch=made_with, skew=made_with))
    alignment = replace(solution.alignment("patches"), evidence=Evidence())
    true_px = np.sqrt(np.mean(left_over(alignment, case.exact_xy - 256) ** 2, axis=(0, 1)).sum())

    def claimed_px(stretches):
        params = AuditParams(solve=SolveParams(stretch=stretches, skew=stretches))
        views = np.zeros((41, 512, 512), np.float32)
        return audit_alignment(views, alignment, case.truth.nominal_deg, -8.0, 10.0, params, tracks=case.tracks).evidence.error_px

    assert 0.8 < claimed_px(True) / true_px < 1.5
    # A reference that may not stretch sees the stretch as motion of the specimen, and takes it for the error of what allows for it.
    assert (0.8 < claimed_px(False) / true_px < 1.5) is not made_with


def test_what_is_opaque_is_not_compared(wild_track):
    """Shadows that come in at high tilt are taken out of what the references are measured in, and named."""
    series, _ = wild_track
    truth = series.truth
    true = Alignment(truth.transforms(), truth.true_deg, np.ones(21, bool), "patches")
    shaded = np.array([series.images[view] for view in range(21)], np.float32)
    for view in (0, 1, 2):
        shaded[view, :, : 40 - 10 * view] *= 0.02

    def notes(images):
        listener = Listener()
        audit_alignment(images, true, truth.nominal_deg, -8.0, 10.0, AuditParams(), observer=listener)
        return listener.warnings + listener.notes

    assert any("opaque" in text and "view 1 (" in text and ", 3 (" in text for text in notes(shaded))
    assert not any("opaque" in text for text in notes(series.images))
