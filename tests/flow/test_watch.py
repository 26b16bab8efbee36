"""The flow that watches folders of a share: what is refused, and a session on the runner of the site."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prefect", reason="needs the extra [prefect]")

from tiltflow.errors import LocationError, ParameterError, TiltflowError
from tiltflow.watch import LEDGER_NAME, Ledger
from tiltflow_flows.watch import watch_flow

pytestmark = pytest.mark.filterwarnings("default")  # Prefect's own deprecations are not ours to mend

LONG_AGO = 1_700_000_000.0


@pytest.fixture
def samples(share: Path, small_series: Path) -> list[str]:
    """Put a good series and one that is cut off into two folders of the share, and a link out of it."""
    names = ["Lab/one", "Lab/two"]
    for name in names:
        folder = share / "Projects" / name
        folder.mkdir(parents=True)
        shutil.copy(small_series, folder / "B.st")
        (folder / "C.st").write_bytes(small_series.read_bytes()[:-1])
        for path in folder.iterdir():
            os.utime(path, (LONG_AGO, LONG_AGO))
    (share / "Projects" / "Lab" / "two" / "D.st").symlink_to(small_series)
    return names


@pytest.mark.usefixtures("prefect_server", "share")
@pytest.mark.parametrize(
    ("asked", "error", "word"),
    [
        ({"file_share": "other", "input_dirs": ["Lab/one"]}, LocationError, "Unknown file share"),
        ({"file_share": "lab", "input_dirs": ["../one"]}, LocationError, "goes up by"),
        ({"file_share": "lab", "input_dirs": []}, ParameterError, "one or more different folders"),
        ({"file_share": "lab", "input_dirs": ["Lab/one", "Lab/one"]}, ParameterError, "one or more different folders"),
        ({"file_share": "lab", "input_dirs": ["Lab/one"], "priorities": [1, 2]}, ParameterError, "2 numbers for 1 folders"),
        ({"file_share": "lab", "input_dirs": ["Lab/one"], "parameters": {"gould": 1}}, ParameterError, "gould"),
        ({"file_share": "lab", "input_dirs": ["Lab/one"], "adoc_template": "/etc/passwd"}, ParameterError, "there is no template"),
    ],
)
def test_a_wrong_request_is_refused(samples: list[str], share: Path, asked: Any, error: type[TiltflowError], word: str) -> None:
    with pytest.raises(error, match=word):
        watch_flow(**asked, once=True)
    assert not (share / "Assets").exists()


@pytest.mark.usefixtures("prefect_server")
def test_a_session_of_two_folders_mirrors_them_in_assets_and_goes_on(samples: list[str], share: Path, fake_imod: Any) -> None:
    fake_imod.setenv("TILTFLOW_WORKERS", "2")
    asked = {"file_share": "lab", "input_dirs": samples, "parameters": {"thickness": 50}, "once": True, "priorities": [0, 1]}
    before = {path: path.stat().st_mtime_ns for path in (share / "Projects").rglob("*")}
    returned = watch_flow(**asked)
    assert (returned["done"], returned["failed"]) == (2, 3), "two were cut off long ago, and one leads out of the share"
    output = share / "Assets" / "Lab"
    assert returned["pages"] == [str(output / name / "index.html") for name in ("one", "two")]
    for name in ("one", "two"):
        assert (output / name / "B" / "B_rec.mrc").is_file()
        assert not (output / name / "C").exists()
    with Ledger(output / LEDGER_NAME, output) as ledger:
        states = {"/".join(path.parts[-2:]): entry.state.value for path, entry in ledger.entries().items()}
    assert states == {"one/B.st": "done", "two/B.st": "done", "one/C.st": "skipped", "two/C.st": "skipped", "two/D.st": "skipped"}
    assert watch_flow(**asked) == returned | {"done": 0, "failed": 0}
    assert {path: path.stat().st_mtime_ns for path in (share / "Projects").rglob("*")} == before
