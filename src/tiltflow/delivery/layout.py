"""Where inputs are read, where assets are written, and the names of both in the portal.

A share is a folder with two sides: `Projects` holds what the microscopes wrote and is never written to; `Assets` mirrors it and
holds what was made::

    <share>/Projects/Lab/PI/Project/Session/Sample/B.mrc        the input
    <share>/Assets/Lab/PI/Project/Session/Sample/B/tiltMov_B.mp4  one of its assets

The mapping swaps the path *component* that lies directly in the share, never text: a share or a project may itself have
"Projects" in its name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tiltflow.errors import LocationError
from tiltflow.work import Asset, AssetType

PROJECTS = "Projects"
ASSETS = "Assets"

_SWAPPED = {AssetType.AVERAGED_VOLUME: AssetType.VOLUME, AssetType.VOLUME: AssetType.AVERAGED_VOLUME}


@dataclass(frozen=True, slots=True)
class Layout:
    """The two roots, and the folder of inputs.

    Attributes
    ----------
    inputs
        What `primaryFilePath` is relative to: `<share>/Projects`, or the input folder itself where there is no portal.
    assets
        What the path of an asset is relative to: `<share>/Assets`, or the output folder.
    folder
        The folder whose files are the series; `inputs` or below it.
    share
        The folder that inputs and products must stay in; None without a share.
    swap_volume_types
        Whether the portal has the types of `ave_B.mrc` and `avebin8_B.mrc` the other way round.
    """

    inputs: Path
    assets: Path
    folder: Path
    share: Path | None = None
    swap_volume_types: bool = False

    @property
    def output(self) -> Path:
        """The folder that receives one folder per series."""
        return self.assets / self.folder.relative_to(self.inputs)

    def output_of(self, source: Path) -> Path:
        """Return the folder of a series' products, named after its base name.

        Raises
        ------
        LocationError
            If that folder would lie among the inputs or outside the share, by way of a symbolic link.
        """
        output = self.assets / source.parent.relative_to(self.inputs) / source.stem
        self.check_target(output)
        return output

    def check_target(self, output: Path) -> None:
        """Raise if a folder for results would lie among the inputs or outside the share, by way of a symbolic link.

        Raises
        ------
        LocationError
            If it would.
        """
        if self.share is None:
            return
        self.refuse_projects(output, "The folder for the products")
        if not output.resolve().is_relative_to(self.share.resolve()):
            raise LocationError(
                f"The folder for the products, {output}, leads out of its share to {output.resolve()} by a symbolic link; "
                "replace the link by a folder."
            )

    def refuse_projects(self, path: Path, what: str) -> None:
        """Raise unless `path` lies outside `Projects`, which is only ever read.

        Raises
        ------
        LocationError
            If it does not; `what` begins the sentence.
        """
        if self.share is not None and path.resolve().is_relative_to(self.inputs.resolve()):
            raise LocationError(f"{what}, {path}, lies in {self.inputs}, where nothing is ever written; choose another place.")

    def primary_path(self, source: Path) -> str:
        """Return the portal's name of an input: its path below `Projects`."""
        return source.relative_to(self.inputs).as_posix()

    def asset_path(self, output: Path, asset: Asset) -> str:
        """Return the portal's name of an asset: its path below `Assets`."""
        return (output / asset.path).relative_to(self.assets).as_posix()

    def asset_type(self, asset: Asset) -> AssetType:
        """Return the portal's type of an asset."""
        return _SWAPPED.get(asset.type, asset.type) if self.swap_volume_types else asset.type


def refuse_inputs(mounts: Mapping[str, Path], path: Path, what: str) -> None:
    """Raise if a path lies in `Projects` of a share, links followed: nothing is ever written there.

    Raises
    ------
    LocationError
        If it does; `what` begins the sentence.
    """
    for share in mounts.values():
        if path.resolve().is_relative_to((share / PROJECTS).resolve()):
            raise LocationError(f"{what}, {path}, lies in {share / PROJECTS}, where nothing is ever written; choose another place.")


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """Raise if the folder of a series, or a folder in it that is written to, is a symbolic link: what is written would land elsewhere.

    Raises
    ------
    LocationError
        With the link and where it leads.
    """
    for path in (folder, *(folder / name for name in names)):
        if path.is_symlink():
            raise LocationError(
                f"{path} is a symbolic link to {path.readlink()}, and results are written into folders of their own only; "
                "replace the link by a folder, or give another folder for the results."
            )


def plain_layout(input_dir: Path, output: Path, *, swap_volume_types: bool = False) -> Layout:
    """Return the layout of a run without a share: any folder in, any folder out."""
    return Layout(inputs=input_dir, assets=output, folder=input_dir, swap_volume_types=swap_volume_types)


def resolve_input(mounts: Mapping[str, Path], file_share: str, input_dir: str, *, swap_volume_types: bool = False) -> Layout:
    """Return the layout for `<mount of file_share>/Projects/<input_dir>`.

    Portals send `input_dir` with a slash before and behind it (`/Lab/PI/`): both are left out, and it is relative to `Projects` in any
    case.

    Raises
    ------
    LocationError
        If the share is unknown or not mounted, or if `input_dir` does not name an existing folder inside its `Projects`.
    """
    share = _share(mounts, file_share)
    projects = share / PROJECTS
    wanted = _inner_path(input_dir)
    folder = projects / wanted
    if not projects.is_dir():
        raise LocationError(f"Share {file_share!r} has no folder {PROJECTS}: {projects} is missing; check that it is mounted.")
    if not folder.is_dir():
        raise LocationError(f"No folder {input_dir!r} in {projects}{_hint(wanted, projects)}.")
    for boundary in (share, projects):
        if not folder.resolve().is_relative_to(boundary.resolve()):
            raise LocationError(
                f"Folder {input_dir!r} of share {file_share!r} leads out of {boundary} to {folder.resolve()} by a symbolic link; "
                "copy the data into the share."
            )
    return Layout(inputs=projects, assets=share / ASSETS, folder=folder, share=share, swap_volume_types=swap_volume_types)


def _share(mounts: Mapping[str, Path], file_share: str) -> Path:
    if file_share not in mounts:
        known = ", ".join(sorted(mounts)) or "none: set TILTFLOW_MOUNTS"
        close = difflib.get_close_matches(file_share, mounts, n=1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        raise LocationError(f"Unknown file share {file_share!r}.{meant} Known shares: {known}.")
    share = mounts[file_share]
    if not share.is_dir():
        raise LocationError(
            f"Share {file_share!r} is not available: {share} is not a folder on this machine; check that it is mounted."
        )
    return share


def _inner_path(input_dir: str) -> PurePosixPath:
    wanted = PurePosixPath(input_dir.strip("/"))
    if "\0" in input_dir or "\n" in input_dir:
        raise LocationError(f"Input folder {input_dir!r} contains a character that is not allowed in a path; remove it.")
    if ".." in wanted.parts:
        raise LocationError(
            f"Input folder {input_dir!r} goes up by '..'; give it relative to the share's {PROJECTS}, without '..'."
        )
    if not wanted.parts:
        raise LocationError(f"Input folder {input_dir!r} names no folder; give one inside the share's {PROJECTS}.")
    return wanted


def _hint(wanted: PurePosixPath, projects: Path) -> str:
    if wanted.parts[0] == PROJECTS:
        return f"; the path is already relative to {PROJECTS}: leave that part out"
    place = projects
    for part in wanted.parts:
        if not (place / part).is_dir():
            break
        place /= part
    missing = wanted.parts[len(place.relative_to(projects).parts)]
    close = difflib.get_close_matches(missing, _folders(place), n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    return f": {place} has no folder {missing!r}.{meant} Check the spelling"


def _folders(place: Path) -> list[str]:
    try:
        return [entry.name for entry in place.iterdir() if entry.is_dir()]
    except OSError:
        return []
