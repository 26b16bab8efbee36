#!/usr/bin/env python3
"""Stands in for IMOD's batchruntomo: keeps the contract of its command line, its log and its files, as recorded runs show it.

Reads `-di FILE [-cp N] [-gpu G] [-end 0] [-start 1]`, checks that the directive file names the data set beside it, prints log lines and
leaves files.
How it behaves is chosen by FAKE_BATCHRUNTOMO:

`good`
    as IMOD 5: `Reached step N`, new names, lengths in nm and leave-out errors, an `.edf` of eTomo;
`old-names`
    as IMOD 4.8: `(running X.com)` and `Successfully finished X.com`, old names, lengths in pixels;
`replay:FOLDER`
    as a recorded run of `tests/data/imod_runs`: its log line by line, its files under the name of this data set, its exit status;
`abort`, `abort-status-0`, `error-but-completed`, `silent`, `no-volume`, `broken-volume`, `killed`, `hang`
    as `good`, but for what the word says.

Of a montage (`setupset.copyarg.montage = 1`) it counts views by `NAME.pl`, which must have a line a section, and wants one angle a view;
with `-end 0` it only writes command files, and with `-start 1` leaves those that are there.

Whatever it does, it renames `NAME.mrc` to `NAME.st`, replaces it by a stack without x-rays, and keeps the original as
`NAME_xray.st.gz`; refuses `-cp 1`; and lets tiltalign refuse to weigh whole tracks of beads.
"""

import gzip
import os
import re
import shutil
import signal
import struct
import sys
import time
from pathlib import Path

RUNS = Path(__file__).parents[2] / "data" / "imod_runs"
EXIT_STATUS = {"no_beads_fails": 1}
"""Of recorded runs that did not end with 0, as far as it was recorded."""
COMMAND_FILES = ("eraser", "xcorr", "prenewst", "autofidseed", "track", "align", "newst", "tilt", "trimvol")


def say(*lines):
    for line in lines:
        print(line, flush=True)


def write_mrc(path, shape, mode=1, short=0):
    nz, ny, nx = shape
    header = bytearray(1024)
    struct.pack_into("<10i", header, 0, nx, ny, nz, mode, 0, 0, 0, nx, ny, nz)
    struct.pack_into("<6f", header, 40, nx * 10.0, ny * 10.0, nz * 10.0, 90, 90, 90)
    struct.pack_into("<3i", header, 64, 1, 2, 3)
    struct.pack_into("<3f", header, 76, 0.0, 99.0, 50.0)
    header[208:216] = b"MAP DA\0\0"
    data = b"".join(struct.pack("<h", i % 100) for i in range(nz * ny * nx))
    path.write_bytes(bytes(header) + data[: len(data) - short])


def read_directives(path):
    directives = {}
    for line in path.read_text().splitlines():
        line = line.split("#")[0].strip()
        if line:
            key, _, value = line.partition("=")
            directives[key.strip()] = value.strip()
    return directives


class DataSet:
    """The data set in the working folder, and the files that are made of it."""

    def __init__(self, directives):
        self.name = directives["setupset.copyarg.name"]
        given = Path(f"{self.name}.{directives['setupset.copyarg.stackext']}")
        self.stack = self.path(".st")
        self.nx, self.ny, self.views = struct.unpack("<3i", (given if given.exists() else self.stack).read_bytes()[:12])
        if given != self.stack and given.exists():
            given.rename(self.stack)
        self.montage = directives.get("setupset.copyarg.montage") == "1"
        if self.montage:
            self.count_views(directives)

    def count_views(self, directives):
        """Count views by the piece list, and refuse what montagesize and tiltxcorr refuse."""
        if not self.path(".pl").exists():
            say(" There are no piece coordinates in this image file", f"ABORT SET: {self.path('.pl')} DOES NOT EXIST")
            sys.exit(1)
        pieces = [line.split() for line in self.path(".pl").read_text().splitlines()]
        if len(pieces) < self.views:
            say("ERROR: MONTAGESIZE - The Z size of the image file is larger than the size of the piece list")
            say(f"ABORT SET: Error getting size of {self.stack}")
            sys.exit(1)
        self.views = max(int(z) for _, _, z in pieces) + 1
        if directives.get("setupset.copyarg.userawtlt") == "1":
            angles = len(self.path(".rawtlt").read_text().split())
            if angles != self.views:
                say(f"ERROR: GET_TILT_ANGLES - end of file reached after reading {angles} tilt angles, expected {self.views}")
                say("ABORT SET: An error occurred running xcorr.com")
                sys.exit(1)

    def tilts_of_header(self):
        """Return the tilt angles of SerialEM's extended header, degrees."""
        raw = self.stack.read_bytes()
        each = struct.unpack("<h", raw[128:130])[0]
        return [struct.unpack_from("<h", raw, 1024 + view * each)[0] / 100 for view in range(self.views)]

    def path(self, suffix):
        return Path(self.name + suffix)

    def remove_xrays(self):
        """Replace the stack by a cleaned one and archive the original, as ccderaser and archiveorig do."""
        fixed, archive = self.path("_fixed.st"), self.path("_xray.st.gz")
        shutil.copyfile(self.stack, fixed)
        with gzip.open(archive, "wb", compresslevel=1) as out:
            out.write(self.stack.read_bytes())
        fixed.replace(self.stack)

    def write_command_files(self):
        for name in COMMAND_FILES:
            Path(f"{name}.com").write_text(f"# {name} of {self.name}\n")
        if self.montage:
            for path in (RUNS / "montage_two_by_two").glob("*.com"):
                Path(path.name).write_text(re.sub(r"\bn22\b", self.name, path.read_text()))

    def write_alignment(self):
        row = f"{1:12.7f}{0:12.7f}{0:12.7f}{1:12.7f}{0:12.3f}{0:12.3f}\n"
        for suffix in (".xf", ".prexg"):
            self.path(suffix).write_text(row * self.views)
        self.path(".tlt").write_text("".join(f"{-60 + 3 * i:7.2f}\n" for i in range(self.views)))
        if not self.path(".rawtlt").exists():
            self.path(".rawtlt").write_text("".join(f"{tilt:7.2f}\n" for tilt in self.tilts_of_header()))
        self.path(".resid").write_text("     1 residuals\n     10.00     10.00    0    0.10    0.10\n")
        for suffix in (".fid", ".seed", ".3dmod"):
            self.path(suffix).write_bytes(b"IMODV1.2")
        self.write_bulk("preali")

    def write_bulk(self, kind, *, old=True, short=0):
        """Write a small stand-in of the prealigned or aligned stack, or of the volume before or after it is trimmed."""
        depth = {"preali": self.views, "ali": self.views, "full_rec": self.ny // 4, "rec": 12}[kind]
        names = {"preali": ".preali", "ali": ".ali", "full_rec": "_full.rec", "rec": ".rec"}
        name = names[kind] if old else f"_{kind}.mrc"
        write_mrc(self.path(name), (depth, 12 if kind == "full_rec" else self.ny // 4, self.nx // 4), short=short)


def replay(run, data, first="0", last=""):
    """Do as a recorded run did, or as the part of it up to the set-up or after it, under the name of this data set."""
    folder = RUNS / run
    lines = (folder / "batchruntomo.log").read_text().splitlines()
    set_up = next((at for at, line in enumerate(lines, 1) if line.startswith("Batchruntomo finished")), len(lines))
    lines = lines[:set_up] if last == "0" else lines[set_up:] if first == "1" else lines
    (recorded,) = {line.rpartition(" ")[2] for line in lines if line.startswith("Starting data set")}
    this = re.compile(rf"(?<![\w.]){recorded}(?=[._]|fid\b|local\b|$|\s+to\b)", re.MULTILINE)
    if first != "1":
        data.write_command_files()
        for path in (RUNS / run.removesuffix("_own_ecd")).glob("*.com"):
            Path(path.name).write_text(this.sub(data.name, path.read_text()))
    if last == "0":
        say(*(this.sub(data.name, line) for line in lines))
        sys.exit(0)
    data.remove_xrays()
    completed = any(line.startswith("Completed dataset") for line in lines)
    for path in folder.iterdir():
        if path.name == "batchruntomo.log" or (path.suffix in {".com", ".rawtlt", ".ecd"} and "montage" in run):
            continue
        name = data.name + path.name.removeprefix(recorded) if path.name.startswith(recorded) else path.name
        text = path.suffix == ".log"
        Path(name).write_bytes(this.sub(data.name, path.read_text()).encode() if text else path.read_bytes())
    data.write_bulk("preali")
    for kind in ("ali", "full_rec", "rec") if completed else ():
        data.write_bulk(kind)
    say(*(this.sub(data.name, line) for line in lines))
    sys.exit(EXIT_STATUS.get(run, 0))


def as_imod_4(data):
    """Do as IMOD 4.8 does when all goes well."""
    say(f"Beginning to process directive file {data.name}.adoc", f"Starting data set {data.name}")
    for activity, name in (
        ("Removing X-rays with Ccderaser", "eraser"),
        ("Finding coarse alignment by cross-correlation with Tiltxcorr", "xcorr"),
        ("Making coarse aligned stack", "prenewst"),
        ("Finding seed points for fiducial model", "autofidseed"),
        ("Tracking beads with Beadtrack, run # 1", "track"),
        ("Doing fine alignment with no distortion or local alignments, with robust fitting", "align"),
        ("Making final aligned stack", "newst"),
        ("Making tomogram by back-projection", "tilt"),
    ):
        say(f"{activity} (running {name}.com)", f"Successfully finished {name}.com   in 00:03.1")
    data.write_alignment()
    Path("align.log").write_text(
        "  ImagesAreBinned = 1\n"
        "  Ratio of total measured values to all unknowns =    1254/   124  = 10.11\n"
        " Residual error mean and sd:     0.500   0.250\n Residual error weighted mean:   0.450\n"
    )
    for kind in ("ali", "full_rec", "rec"):
        data.write_bulk(kind)
    say(f"Running trimvol on {data.name}_full.rec to create {data.name}.rec", "Running trimvol.com")
    say("Successfully finished trimvol.com   in 00:02.3", f"Completed dataset {data.name}")
    say("Batchruntomo finished with data set, Sat Nov 28 14:54:32 2026")


def as_imod_5(data, behaviour):
    """Do as IMOD 5 does, with the failure that the behaviour names."""
    data.path(".edf").write_text("Setup.DatasetName=" + data.name + "\n")
    say("Reached step 1", "Successfully finished eraser.com in 0:01", "Reached step 5")
    if behaviour in {"abort", "abort-status-0"}:
        data.path(".seed").write_bytes(b"IMODV1.2")
        say("ERROR: BEADTRACK - NO SEED POINTS FOUND", "ABORT SET: Dataset aborted because beadtrack failed")
        sys.exit(1 if behaviour == "abort" else 0)
    if behaviour == "hang":
        time.sleep(300)
    if behaviour == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "error-but-completed":
        say("ERROR: TILTALIGN - robust fitting failed, running without it")
    data.write_alignment()
    Path("align.log").write_text(
        " Ratio of total measured values to all unknowns =    1254/   124  = 10.11\n"
        " Residual error mean and sd:    0.500    0.250 nm\n"
        " Residual error weighted mean:    0.450 nm\n"
        " Global non-robust leave-out error (100 pts):    0.600 nm weighted    0.550 nm\n"
    )
    Path("taSolution.log").write_text(" At minimum tilt, rotation angle is  -8.00\n")
    say("Final align - residual 0.5", "Reached step 14")
    data.write_bulk("ali", old=False)
    data.write_bulk("full_rec", old=False)
    if behaviour != "no-volume":
        data.write_bulk("rec", old=False, short=100 if behaviour == "broken-volume" else 0)
    say("Reached step 22")
    if behaviour != "silent":
        say(f"Completed dataset {data.name}", "SUCCESSFULLY COMPLETED")


def weighs_whole_tracks_of_beads(directives):
    weighed = directives.get("comparam.align.tiltalign.WeightWholeTracks", "0") == "1"
    fiducials = "runtime.Fiducials.any."
    beads = directives.get(fiducials + "trackingMethod", "0") != "1" and directives.get(fiducials + "fiducialless", "0") == "0"
    return weighed and beads


def main():
    args = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    behaviour = os.environ.get("FAKE_BATCHRUNTOMO", "good")
    directives = read_directives(Path(args["-di"]))
    Path("arguments.log").write_text(" ".join(sys.argv[1:]))
    cpus = args.get("-cp", "")
    if cpus.isdigit() and not 2 <= int(cpus) <= 128:
        say("ERROR: batchruntomo - A number of cores entered with -cpus must be between 2 and 128")
        sys.exit(1)
    data = DataSet(directives)
    if behaviour.startswith("replay:"):
        replay(behaviour.removeprefix("replay:"), data, args.get("-start", "0"), args.get("-end", ""))
    say(f"batchruntomo started on {data.stack} with {cpus or 1} processors")
    if args.get("-start") != "1":
        data.write_command_files()
    if args.get("-end") == "0":
        say("All command files successfully created", "Batchruntomo finished with data set")
        return
    data.remove_xrays()
    if weighs_whole_tracks_of_beads(directives):
        say(
            "Doing fine alignment with no distortion or local alignments, with robust fitting (running align.com)",
            "processchunks ERROR: align.com has given processing error 1 times - giving up",
            "ERROR: TILTALIGN - Weighting whole contours can be done only with a patch track model",
        )
        return
    if behaviour == "old-names":
        as_imod_4(data)
    else:
        as_imod_5(data, behaviour)


main()
