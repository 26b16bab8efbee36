"""Gold beads: found, told from other dark spots by moving like one rigid body, and centred to a few hundredths of a pixel.

Answers to IMOD's autofidseed, imodfindbeads and beadtrack.
"""

from __future__ import annotations

from tiltflow.align.beads.bead_tracking import track_beads
from tiltflow.align.beads.params import BeadParams, BeadResult
from tiltflow.align.beads.rejection import trust_warnings

__all__ = ["BeadParams", "BeadResult", "track_beads", "trust_warnings"]
