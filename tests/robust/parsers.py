"""Every reader of files that come from elsewhere, with real samples, and the attack on one of them; runs as a program of its own.

    python -m tests.robust.parsers NAME COUNT SEED FOLDER

prints what escaped: anything but the project's own errors, more than two seconds of processor time, or more than 200 MB of memory.
"""

from __future__ import annotations

import json
import lzma
import random
import resource
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests.robust.mutations import mutated

DATA = Path(__file__).parents[1] / "data"
LONGEST_S = 2.0
MOST_BYTES = 200 << 20
SIZE, PIXEL = (340, 340), 10.0


@dataclass(frozen=True)
class Parser:
    """A reader: its sample, the name that a file for it has, and the call."""

    sample: Callable[[Path], bytes]
    name: str
    read: Callable[[Path], object]
    beside: str = ""


def _of(name: str) -> Callable[[Path], bytes]:
    return lambda _: (DATA / name).read_bytes()


def _stack(folder: Path) -> bytes:
    from tests.conftest import write_small_series

    return write_small_series(folder / "sample.st", size=8).read_bytes()


def _tiff(folder: Path) -> bytes:
    import numpy as np
    import tifffile

    path = folder / "sample.tif"
    tifffile.imwrite(path, np.arange(3 * 64, dtype=np.uint16).reshape(3, 8, 8), photometric="minisblack", compression="deflate")
    return path.read_bytes()


def _beads(_: Path) -> bytes:
    lines = (DATA / "foreign_alignments/00254_beads.txt").read_bytes().splitlines()[1:200]
    return b"".join(line + b" 1\n" for line in lines)


def _mdoc(_: Path) -> bytes:
    head = (
        b"PixelSpacing = 10\nImageFile = B.st\nImageSize = 8 8\nDataMode = 1\n\n[T =     Tilt axis angle = -8.0, binning = 1]\n\n"
    )
    section = (
        b"[ZValue = %d]\nTiltAngle = %d\nStagePosition = 1.5 -2\nExposureDose = 3\n"
        b"DateTime = 12-Jan-26  10:11:%02d\nSubFramePath = D:\\x\\B_%d.tif\n\n"
    )
    return head + b"".join(section % (view, 20 * view - 40, view, view) for view in range(5))


def _pieces(_: Path) -> bytes:
    return b"".join(b"%7d%7d%5d\n" % (24 * (piece // 2), 24 * (piece % 2), view) for view in range(5) for piece in range(4))


def _stack_of_pieces(folder: Path) -> bytes:
    from tests.montages import coordinates, write_pieces

    return write_pieces(folder / "sample.st", coordinates(), ("header",)).read_bytes()


def _steps(_: Path) -> bytes:
    entry = {
        "name": "a",
        "number": 1,
        "key": "0",
        "made": "2026-01-01T00:00:00Z",
        "tiltflow": "1",
        "files": {"a": {"path": "a", "bytes": 3}},
    }
    return json.dumps({"schema": "tiltflow/steps/1", "steps": [entry]}).encode()


def _edf(_: Path) -> bytes:
    head = b"#Sat Jan 01 00:00:00 UTC 2026\nSetup.AxisType=Single Axis\n"
    return head + b"Setup.DatasetName=B\nSetup.PixelSize=1.0\nSetup.FiducialDiameter=10.0\n"


def _portal(_: Path) -> bytes:
    return b'{"id": 7, "status": "accepted", "files": ["B.st", {"a": [1, 2.5, null]}]}'


def _side(_: Path) -> bytes:
    return b"Tilt axis angle: -8.5\nPixel size: 10\nTilt angles: -40 -20 0 20 40\n"


def _exposures(_: Path) -> bytes:
    return b"".join(b"%d.5 3\n" % (3 * view) for view in range(41))


def _mtf(_: Path) -> bytes:
    return b"# camera\n" + b"".join(b"%.3f %.3f\n" % (0.025 * row, 1 - 0.04 * row) for row in range(1, 21))


def _ctffind(_: Path) -> bytes:
    head = b"# Output from CTFFind version 4.1.14\n"
    return head + b"".join(b"%d.0 19%02d0.1 18400.2 12.5 0.0 0.31 7.2\n" % (view, view) for view in range(1, 42))


def _warp_defocus(_: Path) -> bytes:
    nodes = b"".join(b'<Node X="0" Y="0" Z="%d" Value="1.9%d"/>' % (view, view) for view in range(5))
    angles = b"<Angles>-40\n-20\n0\n20\n40</Angles>"
    grid = b'<GridCTF Width="1" Height="1" Depth="5">' + nodes + b"</GridCTF>"
    return b'<?xml version="1.0"?>\n<TiltSeries AreAnglesInverted="True">' + angles + grid + b"</TiltSeries>"


def _defocus(path: Path) -> object:
    from tiltflow.formats.find_defocus import read_given_defocus

    return read_given_defocus(path, path.stem)


def _read_exposures(path: Path) -> object:
    from tiltflow.formats.exposures import read_exposures

    return read_exposures(path, 41, 2)


def _read_portal(path: Path) -> object:
    import httpx

    from tiltflow.delivery.answer import read_answer

    return read_answer(httpx.Response(200, content=path.read_bytes())).is_word


def _read_steps(path: Path) -> object:
    from tiltflow.record.steps import _read_list

    return _read_list(path)


def _alignment(path: Path) -> object:
    from tiltflow.formats.find_alignment import read_alignment

    return read_alignment(path, path.stem, SIZE, PIXEL)


def _local(path: Path) -> object:
    from tiltflow.formats.imod_local import read_local_alignment

    return read_local_alignment(path, 41, (512, 512), PIXEL)


def _series(path: Path) -> object:
    from tiltflow.formats.series import read_series

    return read_series(path, ask_images=False)


def _series_of_pieces(path: Path) -> object:
    from tests.montages import coordinates, write_pieces

    stack = path.with_suffix(".st")
    if not stack.exists():
        write_pieces(stack, coordinates(), ("rawtlt",))
    return _series(stack)


def _edges(path: Path) -> object:
    from tiltflow.formats.edge_displacements import read_edge_displacements
    from tiltflow.formats.piece_lists import read_piece_list
    from tiltflow.piece_grid import PieceGrid

    pieces = read_piece_list(DATA / "montage" / "n22.pl")
    return read_edge_displacements(path, PieceGrid.of_sections(pieces, (256, 256)))


def _pixels(path: Path) -> object:
    from tiltflow.formats.stacks import open_stack

    stack = open_stack(path)
    return stack[0] if stack.shape[0] and stack.shape[1] * stack.shape[2] < 1 << 20 else stack.shape


def _text(reader: str) -> Callable[[Path], object]:
    """Return a reader of the formats by its module and name."""

    def read(path: Path) -> object:
        from importlib import import_module

        module, _, name = reader.rpartition(".")
        return getattr(import_module(f"tiltflow.{module}"), name)(path)

    return read


def _edf_of(path: Path) -> object:
    from tiltflow.formats.edf import parse_edf

    return parse_edf(path.read_text(encoding="utf-8", errors="replace"))


def _tracks(path: Path) -> object:
    from tiltflow.interchange.track_file import read_tracks

    return read_tracks(path, 61)


PARSERS: dict[str, Parser] = {
    "MRC header, extended header and views": Parser(_stack, "B.st", _pixels),
    "series of an MRC stack": Parser(_stack, "B.st", _series),
    "series of a stack of pieces": Parser(_stack_of_pieces, "B.st", _series),
    "piece list (.pl)": Parser(_pieces, "B.pl", _text("formats.piece_lists.read_piece_list")),
    "edge displacements (.ecd)": Parser(_of("imod_runs/montage_two_by_two/n22.ecd"), "n22.ecd", _edges),
    "series with a piece list": Parser(_pieces, "P.pl", _series_of_pieces),
    "TIFF": Parser(_tiff, "B.tif", _pixels),
    "tilt angles (.rawtlt, .tlt)": Parser(_of("formats/sim.rawtlt"), "B.rawtlt", _text("formats.tilts.read_tilts")),
    "transforms (.xf)": Parser(_of("formats/sim.xf"), "B.xf", _text("formats.transforms.read_transforms")),
    "IMOD alignment (.xf with .tlt)": Parser(
        _of("foreign_alignments/imod/00254.xf"), "00254.xf", _alignment, "foreign_alignments/imod/00254.tlt"
    ),
    "IMOD local alignment": Parser(_of("imod_runs/two_surfaces_local/twolocal.xf"), "twolocal.xf", _local),
    "directives (.adoc)": Parser(_of("batchruntomo/relion_fiducials.adoc"), "B.adoc", _text("formats.directives.read_directives")),
    "mdoc": Parser(_mdoc, "B.st.mdoc", _text("formats.mdoc.read_mdoc")),
    "text of the acquisition (.txt)": Parser(_side, "B.txt", _text("formats.side_axis.read_side_axis")),
    "AreTomo (.aln)": Parser(_of("foreign_alignments/aretomo/00254.aln"), "00254.aln", _text("formats.aretomo.read_aln")),
    "RELION (.star)": Parser(
        _of("foreign_alignments/relion/tilt_series/00254.star"), "00254.star", _text("formats.relion_star.read_star")
    ),
    "Warp (.xml)": Parser(_of("foreign_alignments/warp/00254.xml"), "00254.xml", _alignment),
    "exposures": Parser(_exposures, "doses.txt", _read_exposures),
    "MTF": Parser(_mtf, "camera.mtf", _text("formats.mtf.read_mtf")),
    "defocus (.defocus)": Parser(_of("defocus/views_v3_astig.defocus"), "B.defocus", _defocus),
    "defocus (Warp)": Parser(_warp_defocus, "B.xml", _defocus),
    "defocus (CTFFIND)": Parser(_ctffind, "B.txt", _defocus),
    "eTomo (.edf)": Parser(_edf, "B.edf", _edf_of),
    "tracks (_fid.txt)": Parser(_beads, "B_fid.txt", _tracks),
    "record of a series": Parser(_of("records/series-0.1.json"), "run.json", _text("record.read_record")),
    "record of a run": Parser(_of("records/run-0.1.json"), "run.json", _text("record.read_run")),
    "list of steps": Parser(_steps, "B_steps.json", _read_steps),
    "answer of the portal": Parser(_portal, "answer", _read_portal),
}


def escaped(name: str, count: int, seed: int, folder: Path) -> Iterator[tuple[int, str, bytes]]:
    """Yield the number of each mutation that was not refused properly, what happened, and the file."""
    from tiltflow.errors import TiltflowError

    parser, chance = PARSERS[name], random.Random(f"{name} {seed}")
    sample, path = parser.sample(folder), folder / parser.name
    path.write_bytes(sample)
    if parser.beside:
        shutil.copy(DATA / parser.beside, folder)
    parser.read(path)  # the sample itself, and all that is loaded for it
    signal.signal(signal.SIGVTALRM, _too_long)
    resource.setrlimit(resource.RLIMIT_AS, (_in_use() + MOST_BYTES, resource.RLIM_INFINITY))
    warnings.simplefilter("ignore")
    for number in range(count):
        text = mutated(sample, chance)
        path.write_bytes(text)
        signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_S)
        try:
            parser.read(path)
        except TiltflowError:
            continue
        except BaseException as error:  # noqa: BLE001  whatever escapes is what is looked for
            where = traceback.extract_tb(error.__traceback__)
            inside = [frame for frame in where if "/tiltflow/" in frame.filename] or list(where)
            place = f"{Path(inside[-1].filename).name}:{inside[-1].lineno}"
            yield number, f"{type(error).__name__} at {place}: {str(error)[:120]}", text
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _too_long(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"more than {LONGEST_S:g} s")


def _in_use() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main() -> None:
    """Attack one reader."""
    name, count, seed, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    found = [(number, what, lzma.compress(text).hex()[:2000]) for number, what, text in escaped(name, count, seed, folder)]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
