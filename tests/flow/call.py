"""How tests call the BRT flow: its parameters, and the program that runs it in a process of its own."""

from __future__ import annotations

NINE = {
    "montage": 0,
    "gold": 10,
    "focus": 0,
    "fiducialless": 1,
    "trackingMethod": 0,
    "TwoSurfaces": 0,
    "TargetNumberOfBeads": 20,
    "LocalAlignments": 0,
    "THICKNESS": 50,
}
"""The parameters that have IMOD's names; without fiducials."""
OF_SAMPLE = NINE | {"file_share": "lab", "input_dir": "Lab/Sample"}
PROGRAM = "import json, sys; from tiltflow_flows.brt import brt_flow; brt_flow(**json.loads(sys.argv[1]))"
"""For `python -c`, with the parameters as JSON."""
