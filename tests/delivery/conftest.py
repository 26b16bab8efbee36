"""An outbox, and the time that it goes by."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.delivery.outbox_parts import Clock

from tiltflow.delivery.outbox import Outbox


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(tmp_path: Path, clock: Clock) -> Outbox:
    return Outbox(tmp_path / "state", clock=clock)
