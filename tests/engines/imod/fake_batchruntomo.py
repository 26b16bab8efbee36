#!/usr/bin/env python3
"""Stands in for IMOD's batchruntomo: keeps the documented contract of its command line, its log and its files.

Reads `-di FILE -cp N [-gpu G]`, checks that the directive file names the data set beside it, prints the log lines that eTomo
parses, and leaves `B_ali.mrc`, `B_rec.mrc`, `B.xf`, `B.tlt` and `align.log`.  How it behaves is chosen by FAKE_BATCHRUNTOMO:
`good`, `old-names`, `abort`, `abort-status-0`, `error-but-completed`, `silent`, `no-volume`, `broken-volume`, `killed`, `hang`.
"""

import os
import signal
import struct
import sys
import time
from pathlib import Path


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


def main():
    args = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    behaviour = os.environ.get("FAKE_BATCHRUNTOMO", "good")
    directives = {}
    for line in Path(args["-di"]).read_text().splitlines():
        line = line.split("#")[0].strip()
        if line:
            key, _, value = line.partition("=")
            directives[key.strip()] = value.strip()
    name, extension = directives["setupset.copyarg.name"], directives["setupset.copyarg.stackext"]
    stack = Path(f"{name}.{extension}")
    raw = stack.read_bytes()
    nx, ny, views = struct.unpack("<3i", raw[:12])
    Path("arguments.log").write_text(" ".join(sys.argv[1:]))
    cpus = args.get("-cp", "")
    if cpus.isdigit() and not 2 <= int(cpus) <= 128:
        print("ERROR: batchruntomo - A number of cores entered with -cpus must be between 2 and 128", flush=True)
        sys.exit(1)
    print(f"batchruntomo started on {stack} with {cpus or 1} processors", flush=True)
    print("Reached step 1", flush=True)
    print("Successfully finished eraser.com in 0:01", flush=True)
    print("Reached step 5", flush=True)
    if behaviour in {"abort", "abort-status-0"}:
        print("ERROR: BEADTRACK - NO SEED POINTS FOUND", flush=True)
        print("ABORT SET: Dataset aborted because beadtrack failed", flush=True)
        sys.exit(1 if behaviour == "abort" else 0)
    if behaviour == "hang":
        time.sleep(300)
    if behaviour == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "error-but-completed":
        print("ERROR: TILTALIGN - robust fitting failed, running without it", flush=True)
    Path("align.log").write_text(
        " Ratio of total measured values to all unknowns =    1254/   124  = 10.11\n"
        " Residual error mean and sd:    0.500    0.250 nm\n"
        " Residual error weighted mean:    0.450 nm\n"
        " Global non-robust leave-out error (100 pts):    0.600 nm weighted    0.550 nm\n"
    )
    Path(f"{name}.xf").write_text("".join(f"{1:12.7f}{0:12.7f}{0:12.7f}{1:12.7f}{0:12.3f}{0:12.3f}\n" for _ in range(views)))
    Path(f"{name}.tlt").write_text("".join(f"{-60 + 3 * i:7.2f}\n" for i in range(views)))
    print("Final align - residual 0.5", flush=True)
    print("Reached step 14", flush=True)
    old = behaviour == "old-names"
    write_mrc(Path(f"{name}.ali" if old else f"{name}_ali.mrc"), (views, ny // 4, nx // 4))
    if behaviour != "no-volume":
        short = 100 if behaviour == "broken-volume" else 0
        write_mrc(Path(f"{name}.rec" if old else f"{name}_rec.mrc"), (12, ny // 4, nx // 4), short=short)
    print("Reached step 22", flush=True)
    if behaviour != "silent":
        print(f"Completed dataset {name}", flush=True)
        print("SUCCESSFULLY COMPLETED", flush=True)


main()
