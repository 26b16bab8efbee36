"""Broken files of every kind that is read: refused in words, within two seconds and 200 MB each."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tests.robust.parsers import DATA, PARSERS
from tests.robust.runs import ROOT

from tiltflow.errors import FormatError
from tiltflow.formats.imod_local import read_local_alignment
from tiltflow.interchange.track_file import read_tracks
from tiltflow.recipe.like import recipes_like
from tiltflow.record import read_record

MUTATIONS = {False: 300, True: 20_000}


@pytest.mark.skipif(sys.platform != "linux", reason="the limits of time and memory are Linux's")
@pytest.mark.parametrize("name", PARSERS)
def test_a_broken_file_is_refused_in_words(tmp_path, tally, thorough, name):
    command = [sys.executable, "-m", "tests.robust.parsers", name, str(MUTATIONS[thorough]), "1", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-800:]
    found = {number: what for number, what, _ in json.loads(ended.stdout)}
    kind = f"broken file: {name}"
    for number in range(MUTATIONS[thorough]):
        tally.add(kind, f"mutation {number}", [found[number]] if number in found else [])
    tally.require(kind)


@pytest.mark.parametrize("number", ["inf", "1e300", "4294967295", "nan", "0"])
def test_a_number_of_a_track_that_none_has_is_refused(tmp_path, number):
    path = tmp_path / "B_fid.txt"
    path.write_text(f"{number} 1 10 20 1\n")
    with pytest.raises(FormatError, match="counted from 1"):
        read_tracks(path, 5)


def test_an_area_that_is_mapped_to_a_line_is_refused(tmp_path):
    head, *lines = (DATA / "imod_runs/two_surfaces_local/twolocal.xf").read_text().splitlines()
    numbers = " ".join(lines).split()
    last = slice(len(numbers) - 6, len(numbers) - 2)
    numbers[last] = ["0"] * 4
    path = tmp_path / "twolocal.xf"
    path.write_text(f"{head}\n{' '.join(numbers)}\n")
    with pytest.raises(FormatError, match="has no inverse"):
        read_local_alignment(path, 41, (512, 512), 10.0)


@pytest.mark.parametrize("read", [read_record, recipes_like])
def test_a_record_of_brackets_is_refused(tmp_path, read):
    path = tmp_path / "run.json"
    path.write_text("[" * 100_000)
    with pytest.raises(FormatError):
        read(path)
