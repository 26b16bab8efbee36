"""How near the reconstruction comes to that of IMOD's `tilt`, set by set of the golden data.

    python benchmarks/golden.py GOLDEN/tilt

The folder holds `ali.mrc`, `sim.tlt` and what `tilt` 4.8.2 makes of them under the names below: MODE 2, THICKNESS 96, IMAGEBINNED 2,
RADIAL .35 .05, SCALE 0 0.2 and no LOG, unless the set says otherwise.  Prints the correlation of all voxels, the slope and offset of
the line that takes our grey values to theirs, the ratio of the means, and the root mean square difference as a part of their spread.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from tiltflow.formats.mrc import open_mrc
from tiltflow.formats.tilts import read_tilts
from tiltflow.reconstruct.wbp import ReconstructParams, reconstruct

SETS: dict[str, tuple[str, dict[str, Any]]] = {
    "wbp": ("plain", {}),
    "wbp_noramp_width": ("RADIAL .25 .03", {"radial_cutoff": 0.25, "radial_falloff": 0.03}),
    "wbp_xtilt": ("XAXISTILT -2.21", {"x_axis_tilt_deg": -2.21}),
    "wbp_shift_offset": ("SHIFT 6 9, OFFSET 3.5", {"shift_x": 6.0, "shift_z": 9.0, "offset_deg": 3.5}),
    "wbp_log": ("LOG 0, SCALE 0 500", {"log_offset": 0.0, "scale_factor": 500.0}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    tilt = read_tilts(folder / "sim.tlt")
    print(f"{'set':<18}{'directives':<24}{'correlation':>12}{'slope':>9}{'offset':>8}{'mean':>9}{'rms / sd':>10}")
    with open_mrc(folder / "ali.mrc") as aligned:
        for name, (directives, changes) in SETS.items():
            slabs: list[Any] = []
            params = ReconstructParams(**({"thickness": 96, "binning": 2, "scale_factor": 0.2, "mode": 2} | changes))
            reconstruct(aligned, tilt, params, sink=lambda _, slab, slabs=slabs: slabs.append(slab))
            ours = np.concatenate(slabs).astype(float).ravel()
            theirs = open_mrc(folder / f"{name}.mrc").read_block().astype(float).ravel()
            slope, offset = np.polyfit(ours, theirs, 1)
            r = np.corrcoef(ours, theirs)[0, 1]
            rms = np.sqrt(np.mean((ours - theirs) ** 2)) / theirs.std()
            print(f"{name:<18}{directives:<24}{r:>12.6f}{slope:>9.5f}{offset:>8.2f}{ours.mean() / theirs.mean():>9.5f}{rms:>10.5f}")


if __name__ == "__main__":
    main()
