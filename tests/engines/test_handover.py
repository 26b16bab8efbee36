"""When a second engine works, and whose result is used: a table for each rule."""

from __future__ import annotations

import numpy as np
import pytest

from tiltflow.engines.handover import second_is_better, successor, why_hand_over
from tiltflow.errors import ParameterError
from tiltflow.model import Alignment, Evidence


@pytest.mark.parametrize(
    ("wanted", "first", "fallback", "second"),
    [
        pytest.param("auto", "imod", "native", "native", id="the fallback engine"),
        pytest.param("imod", "imod", "native", "native", id="also when an engine was asked for by name"),
        pytest.param("imod", "imod", "off", None, id="none when it is off"),
        pytest.param("auto", "native", "native", None, id="never the same engine twice"),
        pytest.param("native", "native", "off", None, id="none after the last"),
        pytest.param("best", "imod", "native", "native", id="best: the fallback engine"),
        pytest.param("best", "imod", "off", "native", id="best: the next engine that can be used"),
        pytest.param("native", "native", "imod", "imod", id="another direction, where it is set so"),
    ],
)
def test_which_engine_comes_second(fake_imod, wanted, first, fallback, second):
    found = successor(wanted, first, fallback)
    assert (found.name if found else None) == second


def test_an_engine_that_is_not_installed_does_not_come_second(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert successor("native", "native", "imod") is None
    assert successor("best", "native", "off") is None


def test_a_fallback_engine_that_does_not_exist_is_refused():
    with pytest.raises(ParameterError, match="no engine 'eman'"):
        successor("auto", "native", "eman")


@pytest.mark.parametrize(
    ("failure", "poor", "best", "why"),
    [
        (None, None, False, None),
        ("it stopped", None, False, "IMOD failed: it stopped"),
        (None, "the error is 3 px", False, "the alignment by IMOD is poor: the error is 3 px"),
        (None, None, True, "the better of two alignments is to be used"),
        ("it stopped", None, True, "IMOD failed: it stopped"),
    ],
)
def test_why_the_work_is_handed_over(failure, poor, best, why):
    assert why_hand_over("IMOD", failure, poor, best=best) == why


def claimed(error_px, *warnings):
    evidence = Evidence(error_px=error_px, trust_warnings=warnings)
    return Alignment(np.zeros((1, 2, 3)), np.zeros(1), np.ones(1, bool), "gold", evidence=evidence)


@pytest.mark.parametrize(
    ("first", "second", "better"),
    [
        pytest.param(claimed(0.3), claimed(0.2), True, id="the smaller error"),
        pytest.param(claimed(0.2), claimed(0.3), False, id="the larger error"),
        pytest.param(claimed(3.0, "off"), claimed(4.0), True, id="trusted before not trusted"),
        pytest.param(claimed(None), claimed(0.9), True, id="known before unknown"),
        pytest.param(claimed(0.3), claimed(None), False, id="unknown loses"),
        pytest.param(claimed(0.3), claimed(0.3), False, id="of equals the first"),
        pytest.param(None, claimed(0.9), True, id="one that is known at all"),
        pytest.param(claimed(0.9), None, False, id="none that is not"),
    ],
)
def test_the_better_alignment_is_used(first, second, better):
    assert second_is_better(first, second) is better
