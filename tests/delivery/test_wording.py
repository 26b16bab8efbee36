"""Messages to the portal: what a scientist needs of them stays, and no path of the server does."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltflow.delivery.layout import Layout, plain_layout
from tiltflow.delivery.wording import without_server_paths, without_server_paths_in

SHARE = Path("/mnt/hedwig data")
LAYOUT = Layout(SHARE / "Projects", SHARE / "Assets", SHARE / "Projects" / "Lab" / "My Sample", SHARE)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("B.mrc is cut short: 12 of 41 views are there.", "B.mrc is cut short: 12 of 41 views are there."),
        (f"{LAYOUT.folder}/B 1.mrc: it ends early", "Projects/Lab/My Sample/B 1.mrc: it ends early"),
        (f"No room left in {LAYOUT.output}; make room", "No room left in Assets/Lab/My Sample; make room"),
        ("batchruntomo is missing /lscratch/B-12.x/B.xf.", "batchruntomo is missing B.xf."),
        ("[Errno 2] No such file: '/l scratch/my dir/B.rec'", "[Errno 2] No such file: 'B.rec'"),
        ("Cannot publish in /mnt/elsewhere/ (read-only)", "Cannot publish in elsewhere (read-only)"),
        ("gold and/or patches, 1/2 of 3.4 nm / px, 40 GB/s", "gold and/or patches, 1/2 of 3.4 nm / px, 40 GB/s"),
        ("https://portal.example/api/done answered 500", "https://portal.example/api/done answered 500"),
        ("the directive runtime.a/b is unknown", "the directive runtime.a/b is unknown"),
    ],
)
def test_names_and_stages_stay_and_places_on_the_server_go(message: str, told: str) -> None:
    assert without_server_paths(message, LAYOUT) == told


def test_a_run_without_a_share_tells_paths_below_its_own_two_folders() -> None:
    layout = plain_layout(Path("/data/in put"), Path("/data/out"))
    assert without_server_paths("/data/in put/a/B.st, /data/out/B/run.json", layout) == "a/B.st, B/run.json"


def test_a_share_behind_a_link_is_known_by_both_of_its_paths(tmp_path: Path) -> None:
    real = tmp_path / "disk 7"
    real.mkdir()
    (tmp_path / "mount").symlink_to(real)
    layout = Layout(
        tmp_path / "mount" / "Projects", tmp_path / "mount" / "Assets", tmp_path / "mount" / "Projects", tmp_path / "mount"
    )
    assert (
        without_server_paths(f"{real}/Projects/B.st or {tmp_path}/mount/Projects/B.st", layout) == "Projects/B.st or Projects/B.st"
    )


WORD = st.text(st.characters(categories=("L", "N"), include_characters="_-."), min_size=1, max_size=8)


@given(st.lists(WORD, min_size=2, max_size=5), WORD, WORD)
def test_of_any_path_no_more_than_its_name_is_left(parts: list[str], before: str, after: str) -> None:
    path = "/" + "/".join(parts)
    assert without_server_paths(f"{before} {path} {after}", LAYOUT) == f"{before} {parts[-1]} {after}"
    assert path not in without_server_paths(f"{before}: '{path}' ({path}), {after}", LAYOUT)


def test_texts_anywhere_in_the_evidence_are_told_the_same_way() -> None:
    evidence = {"verdict": "good", "error_px": 0.1, "reasons": ["see /var/log/x.log", None]}
    assert without_server_paths_in(evidence, LAYOUT) == {"verdict": "good", "error_px": 0.1, "reasons": ["see x.log", None]}
