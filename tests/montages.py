"""Small montaged series: pieces of 32 pixels that are cut from one image, with the files in which their coordinates are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow.formats.mrc import MrcWriter
from tiltflow.formats.piece_lists import coordinates_of, write_piece_list
from tiltflow.formats.tilts import write_tilts
from tiltflow.simulate.montage import SimulatedMontage

PIECE, STEP, VIEWS = 32, 24, 5
TILTS = np.linspace(-40, 40, VIEWS)
LABEL = "    Tilt axis angle = -8.0, binning = 1  spot = 8  camera = 0"


def coordinates(columns: int = 2, rows: int = 2, views: int = VIEWS) -> NDArray[np.int64]:
    """Return x, y, z of every piece as SerialEM orders them, y fastest."""
    return np.array([(STEP * i, STEP * j, z) for z in range(views) for i in range(columns) for j in range(rows)], np.int64)


def write_pieces(path: Path, pieces: NDArray[np.int64], beside: Sequence[str] = ("pl", "rawtlt")) -> Path:
    """Write a stack of pieces with 10 Å pixels, and beside it what is asked for: `pl`, `rawtlt`, `mdoc`, `header`."""
    rng = np.random.default_rng(1)
    whole = rng.normal(1000, 50, (STEP * 3 + PIECE, STEP * 3 + PIECE)).astype(np.float32)
    with MrcWriter(
        path, (len(pieces), PIECE, PIECE), np.int16, pixel_size_angstrom=10, labels=[LABEL], is_stack=True, tilt_deg=None
    ) as out:
        for x, y in (pieces[:, :2] - pieces[:, :2].min(axis=0)) % (STEP * 4):
            out.write(whole[y : y + PIECE, x : x + PIECE])
    views = np.unique(pieces[:, 2], return_inverse=True)[1]
    if "header" in beside:
        add_serialem_header(path, np.c_[np.rint(TILTS[views % VIEWS] * 100), pieces])
    if "pl" in beside:
        write_piece_list(path.with_suffix(".pl"), pieces)
    if "rawtlt" in beside:
        write_tilts(path.with_suffix(".rawtlt"), TILTS[: views.max() + 1])
    if "mdoc" in beside:
        Path(f"{path}.mdoc").write_text(mdoc_text(pieces, TILTS[views % VIEWS]))
    return path


def add_serialem_header(path: Path, shorts: NDArray[np.floating]) -> None:
    """Put an extended header with tilt x 100 and x, y, z of each section between the header of a file and its images."""
    raw = path.read_bytes()
    start = 1024 + int(np.frombuffer(raw, "<i4", 1, 92)[0])
    records = (np.asarray(shorts, np.int64) % (1 << 16)).astype("<u2").tobytes()
    records += bytes(-len(records) % 1024)
    head = bytearray(raw[:1024])
    head[92:96] = np.array([len(records)], "<i4").tobytes()
    head[104:108] = b"SERI"
    head[128:132] = np.array([2 * shorts.shape[1], 3], "<i2").tobytes()
    path.write_bytes(bytes(head) + records + raw[start:])


def mdoc_text(pieces: NDArray[np.int64], tilts: NDArray[np.float64], montage: int = 1) -> str:
    """Return an `.mdoc` as SerialEM writes it for a montage; each piece receives 3 electrons per square ångström."""
    lines = [f"PixelSpacing = 10\nImageFile = B.st\nImageSize = {PIECE} {PIECE}\nMontage = {montage}\nDataMode = 1\n"]
    lines.append(f"[T = SerialEM: montage]\n\n[T = {LABEL}]\n")
    for section, ((x, y, z), tilt) in enumerate(zip(pieces.tolist(), tilts, strict=True)):
        lines.append(
            f"[ZValue = {section}]\nPieceCoordinates = {x} {y} {z}\nTiltAngle = {tilt:.3f}\nExposureDose = 3\n"
            f"DateTime = 01-Jan-26  10:{section // 60:02d}:{section % 60:02d}\nAlignedPieceCoords = {x + 2} {y - 1} {z}\n"
            "XedgeDxyVS = 1.5 -2 0.9\nXedgeDxy = 1.5 -2 0.9\nYedgeDxy = 0.5 1\n"
        )
        if section + 1 == len(pieces) or pieces[section + 1, 2] != z:
            lines.append(f"[MontSection = {z}]\nTiltAngle = 99\nFullMontSize = 56 56\n")
    return "\n".join(lines)


def write_simulated(path: Path, made: SimulatedMontage) -> Path:
    """Write a stack of pieces with its piece list and a tilt a view."""
    label = f"    Tilt axis angle = {float(np.mean(made.truth.axis_deg)):.1f}, binning = 1  spot = 8  camera = 0"
    with MrcWriter(path, made.images.shape, np.int16, pixel_size_angstrom=10, labels=[label], is_stack=True, tilt_deg=None) as out:
        for image in made.images:
            out.write(image)
    write_piece_list(path.with_suffix(".pl"), coordinates_of(made.grid))
    write_tilts(path.with_suffix(".rawtlt"), made.truth.nominal_deg)
    return path
