"""Defocus, its claimed errors, astigmatism and hand of simulated series whose CTF is known; or of a real one.

    python benchmarks/ctf.py [--series 24] [--first 1] [--size 512] [--views 21] [--plot FILE.png] [--record]
    python benchmarks/ctf.py --stack FILE.mrc --xf FILE.xf --tlt FILE.tlt --pixel NM [--amplitude 0.07] [--plot FILE.png]

Simulated series are of ice of 60 to 300 nm with cells and, in every other one, gold; 20 to 100 electrons a pixel, 1.5 to 6 µm, pixels of
0.3 to 0.8 nm, either hand; the defocus drifts by 0 to 40 nm a view, the astigmatism is 0 or 100 nm.  They are aligned as they truly are.
Wanted are z scores of rms 1, no wrong hand, and no error above 300 nm where the estimate says that it may be used.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from record import Figures, add_option
from tiltflow.ctf.estimate import estimate_ctf
from tiltflow.ctf.model import Microscope
from tiltflow.ctf.result import CtfEstimate, CtfParams
from tiltflow.formats.stacks import open_stack
from tiltflow.formats.tilts import read_tilts
from tiltflow.formats.transforms import read_transforms
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate

SILENT_NM = 300.0
"""An error of a view that must not happen without a word."""


def main() -> None:
    """Print the table, and draw the plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--series", type=int, default=24)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--views", type=int, default=21)
    parser.add_argument("--stack", type=Path)
    parser.add_argument("--xf", type=Path)
    parser.add_argument("--tlt", type=Path)
    parser.add_argument("--pixel", type=float)
    parser.add_argument("--amplitude", type=float, default=0.07)
    parser.add_argument("--plot", type=Path)
    add_option(parser)
    asked = parser.parse_args()
    if asked.stack:
        real(asked)
        return
    figures = Figures("ctf")
    with figures.printed():
        print("| series | µm | nm/px | dose | error nm | claimed nm | rms z | hand | rings Å | s |")
        print("|---|---:|---:|---:|---:|---:|---:|---|---:|---:|")
        rows = [row(params) for params in cases(asked)]
        summarise(rows, figures)
    figures.save(asked)


def cases(asked: argparse.Namespace) -> list[SimulationParams]:
    """Return series of which every property is spread over its range, in an order of its own."""
    rng = np.random.default_rng(asked.first)

    def spread(lowest: float, highest: float) -> list[float]:
        return [float(value) for value in rng.permutation(np.linspace(lowest, highest, asked.series))]

    def mixed(*values: float) -> list[float]:
        return [values[i % len(values)] for i in rng.permutation(asked.series)]

    columns = zip(
        spread(20, 100),
        spread(1.5, 6),
        mixed(0.3, 0.4, 0.5, 0.6, 0.8),
        mixed(-1, 1),
        spread(0, 40),
        mixed(0, 100),
        mixed(0, 10),
        spread(60, 300),
        spread(2, 5),
        strict=True,
    )
    return [
        SimulationParams(
            seed=asked.first + number,
            size=asked.size,
            views=asked.views,
            regime="cryo",
            dose=dose,
            defocus_um=defocus,
            pixel_nm=pixel,
            defocus_hand=1 if hand > 0 else -1,
            defocus_drift_nm=drift,
            astigmatism_nm=astigmatism,
            astigmatism_deg=30.0,
            beads=int(beads),
            thickness_px=thickness / pixel,
            ice=ice,
        )
        for number, (dose, defocus, pixel, hand, drift, astigmatism, beads, thickness, ice) in enumerate(columns)
    ]


Row = tuple[CtfEstimate, np.ndarray, int]
"""Estimate, error of each view in nm, and the true hand."""


def row(params: SimulationParams) -> Row:
    """Print the row of one series, and return what was found."""
    series = simulate(params, threads=2)
    begin = time.process_time()
    truth = series.truth
    found = estimate_ctf(series.images, truth.transforms(), truth.true_deg, params.pixel_nm, CtfParams())
    seconds = time.process_time() - begin
    assert truth.defocus_nm is not None
    error = found.defocus_nm - truth.defocus_nm
    hand = "?" if found.hand.sign is None else "right" if found.hand.sign == params.defocus_hand else "WRONG"
    name = f"{params.seed}{', gold' if params.beads else ''}{'' if found.confident else ': not used'}"
    print(
        f"| {name} | {params.defocus_um:.1f} | {params.pixel_nm} | {params.dose:.0f} | {error.mean():+.0f} ± {error.std():.0f} | "
        f"{found.mean_error_nm:.0f}, {np.median(found.error_nm):.0f} | {rms(error / found.error_nm):.2f} | {hand} | "
        f"{np.median(found.spacing_angstrom):.0f} | {seconds:.1f} |",
        flush=True,
    )
    return found, error, params.defocus_hand


def summarise(rows: Sequence[Row], figures: Figures) -> None:
    """Print what all series say together, and keep it."""
    used = [(found, error) for found, error, _ in rows if found.confident]
    z = np.concatenate([error / found.error_nm for found, error in used])
    of_mean = [error.mean() / found.mean_error_nm for found, error in used]
    wrong = sum(found.hand.sign not in (None, hand) for found, _, hand in rows)
    undecided = sum(found.hand.sign is None for found, _, _ in rows)
    worst = max(float(np.abs(error).max()) for _, error in used)
    silent = sum(float(np.abs(error).max()) > SILENT_NM for _, error in used)
    print(
        f"| **{len(used)} of {len(rows)} used** | | | | worst view {worst:.0f} | | {rms(z):.2f}, of means {rms(of_mean):.2f} | "
        f"{wrong} wrong, {undecided} undecided | | |"
    )
    figures.keep("worst_view", worst, "nm", 0)
    figures.keep("wrong_hands", str(wrong), "series")
    figures.keep("silent_errors", str(silent), "series")


def rms(values: object) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(values, float)))))


def real(asked: argparse.Namespace) -> None:
    """Print and draw the estimate of a real series."""
    tilt, transforms = read_tilts(asked.tlt), read_transforms(asked.xf)
    params = CtfParams(microscope=Microscope(amplitude_contrast=asked.amplitude))
    begin = time.process_time()
    with open_stack(asked.stack) as stack:
        found = estimate_ctf(stack, transforms, tilt, asked.pixel, params)
    print(f"{found.reason} ({time.process_time() - begin:.1f} CPU s); amplitude contrast {asked.amplitude}")
    low = np.abs(tilt) <= 30
    print(f"at up to 30 degrees: median {np.median(found.defocus_nm[low]):.0f} nm, scatter {found.defocus_nm[low].std():.0f} nm")
    hand = found.hand
    gradient = f"gradient {hand.factor:.2f} ± {hand.factor_error:.2f} of a flat specimen's"
    print(f"hand {hand.sign} with a probability of {hand.certainty:.4f}; {gradient}")
    bent = found.astigmatism
    print(f"astigmatism {bent.nm:.0f} ± {found.astigmatism_error_nm:.0f} nm at {bent.deg:.0f} degrees; step {found.step_nm:.0f} nm")
    if asked.plot:
        draw(found, tilt, asked.plot)


def draw(found: CtfEstimate, tilt: np.ndarray, path: Path) -> None:
    """Draw rings and fit of some views, those of all views, and the defocus of each with its error."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (rings, both, defocus) = plt.subplots(1, 3, figsize=(15, 5), layout="constrained")
    s, order = found.rings.frequency, np.argsort(tilt, kind="stable")
    for place, view in enumerate(order[np.linspace(0, len(order) - 1, 7).astype(int)]):
        rings.plot(s, found.rings.measured[view] + 1.2 * place, ".", color="0.5", markersize=3)
        rings.plot(s, found.rings.fitted[view] + 1.2 * place, color="C0", linewidth=1)
        rings.text(s[-1], 1.2 * place, f" {tilt[view]:.0f}°", va="center", fontsize=8)
    rings.set(xlabel="spatial frequency, 1/nm", yticks=[], title="rings of single views (dots) and the model (line)")
    rings.set_xlim(s[0] - 0.02, s[-1] + 0.06)
    for rows, low, high in ((found.rings.measured[:, ::-1], -s[-1], -s[0]), (found.rings.fitted, s[0], s[-1])):
        extent = (low, high, tilt.max(), tilt.min())
        both.imshow(rows[order], aspect="auto", cmap="gray", vmin=-0.8, vmax=0.8, extent=extent, interpolation="nearest")
    both.set(xlabel="spatial frequency, 1/nm (left: measured, right: model)", ylabel="tilt, degrees", title="all views")
    both.set_xlim(-s[-1], s[-1])
    defocus.errorbar(tilt[order], found.defocus_nm[order], found.error_nm[order], fmt="o", markersize=4, capsize=2)
    defocus.set(xlabel="tilt, degrees", ylabel="defocus, nm", title="defocus and its standard error")
    figure.savefig(path, dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    main()
