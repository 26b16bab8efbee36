"""The alignment as files that IMOD's tools open, and as one JSON with its evidence.

`B.xf` and `B.tlt` have one line for every view of the raw stack, also for views that are left out, so that line numbers and view
numbers agree everywhere.  `B.xtilt` holds the X-axis tilt with the sign that IMOD's tilt gives it in a file, minus that of XAXISTILT
(:func:`tiltflow.geometry.to_xtilt_file`).  `B_fid.txt` lists every position of every track: track, view (both from 1), x, y in raw
pixels, and whether the solution used it.  `B_local.json` holds the local areas, where there are any.  (IMOD keeps these in a file that
only its own programs describe; none is written.)
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiltflow import describe
from tiltflow.formats.tilts import write_tilts
from tiltflow.formats.transforms import write_transforms
from tiltflow.geometry import to_xtilt_file
from tiltflow.model import Alignment, LocalAlignment, TiltSeries, Tracks


def write_alignment_files(folder: Path, series: TiltSeries, alignment: Alignment) -> None:
    """Write `B.xf`, `B.tlt`, `B.xtilt`, `B_align.json` and, where there are such, `B_fid.txt` and `B_local.json` into `folder`."""
    views = series.shape[0]
    write_transforms(folder / f"{series.name}.xf", alignment.transforms)
    write_tilts(folder / f"{series.name}.tlt", alignment.tilt_deg)
    write_tilts(folder / f"{series.name}.xtilt", np.full(views, to_xtilt_file(alignment.x_axis_tilt_deg)))
    if alignment.tracks is not None and alignment.track_weights is not None:
        write_tracks(folder / f"{series.name}_fid.txt", alignment.tracks, alignment.track_weights > 0)
    if alignment.local is not None:
        write_local(folder / f"{series.name}_local.json", alignment.local)
    text = json.dumps(describe.alignment(alignment, series), indent=1, default=str)
    (folder / f"{series.name}_align.json").write_text(text + "\n", encoding="utf-8")


def write_local(path: Path, local: LocalAlignment) -> None:
    """Write the areas: their centres (x, y from the centre of the aligned image, raw pixels), and what each needs in every view.

    `transforms` carry globally to locally aligned coordinates, six numbers A11 A12 A21 A22 DX DY about the image centre as in a line
    of `B.xf`; `delta_tilt_deg` is to be added to `B.tlt`.
    """
    matrices = np.concatenate(
        [local.transforms[..., :2].reshape(*local.transforms.shape[:2], 4), local.transforms[..., 2]], axis=-1
    )
    areas = [
        {
            "centre_px": np.round(centre, 2).tolist(),
            "tracks": int(tracks),
            "transforms": np.round(six, 7).tolist(),
            "delta_tilt_deg": np.round(delta, 4).tolist(),
        }
        for centre, tracks, six, delta in zip(local.centre_px, local.tracks, matrices, local.delta_tilt_deg, strict=True)
    ]
    path.write_text(json.dumps({"areas_along_x_and_y": local.grid, "areas": areas}) + "\n", encoding="utf-8")


def write_tracks(path: Path, tracks: Tracks, used: NDArray[np.bool_]) -> None:
    """Write the positions of `tracks`; `used` is `(track, view)`."""
    lines = ["# track view x y used"]
    for track, view in np.argwhere(tracks.seen):
        x, y = tracks.xy[track, view]
        lines.append(f"{track + 1:6d} {view + 1:6d} {x:10.3f} {y:10.3f} {int(used[track, view]):2d}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
