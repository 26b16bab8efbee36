"""Gold beads: detected, separated from other dark spots by their common rigid motion, and centred to a few hundredths of a pixel.

IMOD's counterparts are autofidseed, imodfindbeads and beadtrack.
"""

from __future__ import annotations

from tiltflow.align.beads.bead_tracking import track_beads
from tiltflow.align.beads.params import BeadParams, BeadResult
from tiltflow.align.beads.rejection import trust_warnings

__all__ = ["BeadParams", "BeadResult", "track_beads", "trust_warnings"]
