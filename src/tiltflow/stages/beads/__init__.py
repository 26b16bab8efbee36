"""Gold beads: found, told from other dark spots by moving like one rigid body, and centred to a few hundredths of a pixel.

Answers to IMOD's autofidseed, imodfindbeads and beadtrack.
"""

from __future__ import annotations

from tiltflow.stages.beads.judge import doubts
from tiltflow.stages.beads.record import BeadParams, BeadResult
from tiltflow.stages.beads.track import track_beads

__all__ = ["BeadParams", "BeadResult", "doubts", "track_beads"]
