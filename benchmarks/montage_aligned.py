"""How well a montage is stitched and aligned: against the truth, with every bead where it is seen in the stitched views.

    python benchmarks/montage_aligned.py [--seeds 1 3 5] [--cases all 2x1 512 missing cryo] [--record]

The cases are those of `benchmarks/montage.py`.  Given are medians over the seeds, px rms: of the same views taken in one piece; stitched
by the overlaps alone; with a shift for every piece in the bundle adjustment, and the worst series of these; the claimed error over the
true one, of the median series and of the most and the least that is claimed.  `placed` is the error of the pieces by the overlaps, and
after the bundle adjustment.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from montage import CASES, Case, drawn, rms
from record import Figures, add_option
from tiltflow.align.fallback import align_views
from tiltflow.align.methods import AlignParams
from tiltflow.engines.stitching import stitched_pieces
from tiltflow.model import Alignment, Stack
from tiltflow.preprocess.montage import MontageParams, StitchedViews, measure_offsets
from tiltflow.simulate.montage import SimulatedMontage
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.scoring import score

USUAL = "all", "2x1", "512", "missing", "cryo"


@dataclass(frozen=True, slots=True)
class Aligned:
    """Errors of one series, px: of the alignment in one piece, stitched only, and with shifts of pieces; claimed; of the pieces."""

    whole: float
    stitched: float
    shifted: float
    claimed: float
    placed: float
    placed_anew: float


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(USUAL))
    add_option(parser)
    asked = parser.parse_args()
    figures = Figures("montage_aligned")
    with figures.printed():
        print(f"{'case':36}{'one piece':>10}{'stitched':>10}{'shifts':>10}{'worst':>8}{'claimed / true':>22}{'placed':>16}")
    for name in asked.cases:
        found = [aligned(CASES[name], seed) for seed in asked.seeds]
        shifted = np.array([each.shifted for each in found])
        ratio = np.array([each.claimed for each in found]) / shifted
        middle = [float(np.median([getattr(each, field) for each in found])) for field in ("whole", "stitched", "shifted")]
        placed = [float(np.median([getattr(each, field) for each in found])) for field in ("placed", "placed_anew")]
        with figures.printed():
            print(
                f"{CASES[name].words:36}{middle[0]:10.3f}{middle[1]:10.3f}{middle[2]:10.3f}{shifted.max():8.3f}"
                f"{np.median(ratio):8.2f} ({ratio.min():.2f} to {ratio.max():.2f}){placed[0]:8.3f}{placed[1]:8.3f}",
                flush=True,
            )
        figures.keep(f"shifted_{name}", middle[2], "px", 3)
        figures.keep(f"whole_{name}", middle[0], "px", 3)
    figures.keep("seeds", len(asked.seeds), "series", 0)
    figures.save(asked)


def aligned(case: Case, seed: int) -> Aligned:
    """Return the errors of one series."""
    montage = drawn(case, seed, whole=True)
    offsets = measure_offsets(montage.images, montage.grid, montage.truth.nominal_deg, MontageParams(focus=case.focus), threads=2)
    views = StitchedViews(montage.images, montage.grid, offsets)
    assert montage.whole is not None
    whole, alone, together = by_gold(montage, montage.whole), by_gold(montage, views), by_gold(montage, views, shifts=True)
    shift = 0.0 if together.pieces is None else together.pieces.shift_px
    moved = offsets.offset_px - shift
    return Aligned(
        whole=score(montage.truth, whole.transforms, whole.tilt_deg).rms_px,
        stitched=score(montage.truth_as_stitched(offsets.offset_px, offsets.linear), alone.transforms, alone.tilt_deg).rms_px,
        shifted=score(montage.truth_as_stitched(moved, offsets.linear), together.transforms, together.tilt_deg).rms_px,
        claimed=together.evidence.error_px or float("nan"),
        placed=rms(montage.placement_error(offsets.offset_px)),
        placed_anew=rms(montage.placement_error(moved)),
    )


def by_gold(montage: SimulatedMontage, views: Stack, *, shifts: bool = False) -> Alignment:
    """Return the alignment of the views by gold, with a shift for every piece if asked."""
    return align_views(
        views,
        montage.truth.nominal_deg,
        SimulationParams().axis_deg,
        10.0,
        AlignParams(method="gold", gold_nm=10.0),
        pieces=stitched_pieces(views) if shifts and isinstance(views, StitchedViews) else None,
        threads=2,
    )


if __name__ == "__main__":
    main()
