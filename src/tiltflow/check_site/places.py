"""Folders: the shares, scratch, and where compiled kernels are kept."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tiltflow.check_site.finding import Finding, Site, failed, good, note
from tiltflow.delivery.cleanup import require_writable
from tiltflow.delivery.layout import ASSETS, PROJECTS, Layout, refuse_inputs
from tiltflow.disk import size_text
from tiltflow.kernels import kept_in
from tiltflow.kernels.warp import warp

ROOM_BYTES = 20e9
"""Scratch for one large series: 61 views of 4096 x 4096 pixels of 2 bytes are 2 GB, of which IMOD makes three copies, and the aligned
stack and a volume of 500 slices hold 10 GB more."""


def share_check(name: str) -> Callable[[Site], Finding]:
    """Return the check of a share: `Projects` can be read, and `Assets` be written to."""

    def look(site: Site) -> Finding:
        share = site.settings.mounts[name]
        projects, assets = share / PROJECTS, share / ASSETS
        if not share.is_dir():
            return failed(f"{share} is no folder on this machine", "mount it, or correct the setting mounts")
        try:
            with os.scandir(projects) as entries:
                next(entries, None)
        except OSError as error:
            return failed(
                f"{projects} cannot be read ({error.strerror})", "mount the share that holds it, or let this user read it"
            )
        Layout(projects, assets, projects, share).check_target(assets)
        if assets.is_dir():
            require_writable(assets, "the results")
            return good(f"{share}: {PROJECTS} can be read, {ASSETS} be written to, {_free(assets)} free")
        require_writable(share, f"the folder {ASSETS}")
        return good(f"{share}: {PROJECTS} can be read, and {ASSETS}, which is not there yet, can be made; {_free(share)} free")

    return look


def check_shares(site: Site) -> Finding:
    """Look whether there are shares at all: without one the flow finds no series; the commands need none."""
    if site.settings.mounts:
        return good(f"{len(site.settings.mounts)}: {', '.join(sorted(site.settings.mounts))}")
    if find_spec("prefect") is None:
        return note("no file share is known, which only the flow needs; it is not installed here")
    return failed("no file share is known, so that the flow finds no series", "set mounts, as TILTFLOW_MOUNTS=name=/mnt/share")


def check_scratch(site: Site) -> Finding:
    """Look whether scratch can be used, and how much room it has."""
    given = site.settings.scratch
    scratch = given or Path(tempfile.gettempdir())
    refuse_inputs(site.settings.mounts, scratch, "The scratch folder")
    there = scratch.is_dir()
    require_writable(scratch, "scratch")
    free = shutil.disk_usage(scratch).free
    if not there:
        scratch.rmdir()
    found = f"{scratch} can be written to, {size_text(free)} free"
    if free < ROOM_BYTES:
        return note(
            f"{found}: less than a large series needs ({size_text(ROOM_BYTES)})", "make room, or set scratch to a larger disk"
        )
    if given is None:
        return note(
            f"{found}; it is the system's folder for temporary files",
            "set scratch to a fast local disk, as TILTFLOW_SCRATCH=/lscratch",
        )
    return good(found)


def check_compiled_kernels(_site: Site, kernel: Any = warp) -> Finding:
    """Look whether compiled kernels are kept: if they are not, each start takes a minute longer."""
    place = kept_in(kernel)
    remedy = "set NUMBA_CACHE_DIR to a folder that this user can write to"
    if place is None:
        return failed("compiled kernels are kept nowhere, so that each start takes a minute longer", remedy)
    require_writable(place, "compiled kernels")
    return good(f"compiled kernels are kept in {place}")


def _free(folder: Path) -> str:
    return size_text(shutil.disk_usage(folder).free)
