"""Stacks of even and odd frames: a change of them makes the half volumes again, nothing else, and is never missed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tests.pipeline.place import Place
from typer.testing import CliRunner

from tiltflow.cli import app
from tiltflow.demo import write_series
from tiltflow.formats.mrc import MrcWriter, open_mrc
from tiltflow.pipeline import process
from tiltflow.pipeline.resume import look_back
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.simulate.parameters import SimulationParams
from tiltflow.simulate.simulated_series import simulate
from tiltflow.work import Site

pytestmark = [pytest.mark.whole, pytest.mark.attack("changed and damaged files")]
HALF = "runtime.Tiltflow.any.halfVolumes=1"


class Work(Place):
    def recipe(self, *directives):
        overrides = ["runtime.AlignedStack.any.binByFactor=1", *directives]
        return make_recipe(BrtParameters(gold=20, thickness=60), overrides=overrides, engine="native")

    def run(self, *directives, on_progress=None):
        more = {} if on_progress is None else {"on_progress": on_progress}
        return process(self.source, self.recipe(*directives), Site(scratch=self.folder / "scratch"), output=self.output, **more)

    def made(self, *directives):
        """Process the series and return the names of the steps that were made."""
        before = (self.output / "run.json").read_bytes() if self.output.is_dir() else b""
        result = self.run(*directives)
        assert result.ok, result.message
        if before == (self.output / "run.json").read_bytes():
            return "nothing"
        return {step.name for step in self.record.steps if not step.kept}

    def write_frames(self, name: str, seed: int, views: int = 15) -> Path:
        with open_mrc(self.source) as whole:
            images, tilts = whole.read_block()[:views], np.linspace(-60, 60, views)
        noise = np.random.default_rng(seed)
        path = self.folder / name
        with MrcWriter(path, images.shape, np.int16, pixel_size_angstrom=20, is_stack=True, tilt_deg=tilts) as out:
            for image in images:
                out.write((image / 2 + noise.normal(0, 100, image.shape)).astype(np.int16))
        return path

    def halves(self) -> list[np.ndarray]:
        return [open_mrc(self.output / f"B_rec_{half}.mrc").read_block().copy() for half in ("even", "odd")]


@pytest.fixture
def work(tmp_path: Path) -> Work:
    place = Work(tmp_path / "work")
    place.folder.mkdir()
    write_series(place.source, simulate(SimulationParams(size=128, views=15, beads=10, thickness_px=40, pixel_nm=2, bead_nm=20)))
    return place


def test_frames_that_come_change_or_go_make_the_half_volumes_again_and_nothing_else(work):
    assert "half volumes" in work.made(HALF)
    assert work.record.halves.of == "views"
    of_views = work.halves()

    even, odd = work.write_frames("B_EVN.mrc", 1), work.write_frames("B_ODD.mrc", 2)
    assert look_back(work.source, work.recipe(HALF), work.output).why == "the stacks of even and odd frames have changed since"
    assert work.made(HALF) == {"half volumes"}
    assert work.record.halves.of == "frames"
    assert work.record.input["half_frames"].value == "B_EVN.mrc and B_ODD.mrc"
    assert [stack.name for stack in work.record.frame_stacks] == ["B_EVN.mrc", "B_ODD.mrc"]
    first = work.halves()
    assert not np.array_equal(first[0], of_views[0])
    assert work.made(HALF) == "nothing"

    times = odd.stat()
    work.write_frames("B_ODD.mrc", 3)
    os.utime(odd, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert work.made(HALF) == {"half volumes"}, "same size, same time of the contents"
    second = work.halves()
    np.testing.assert_array_equal(second[0], first[0])
    assert not np.array_equal(second[1], first[1])

    os.utime(even)
    state = work.record.frame_stacks[0].state
    work.made(HALF)
    assert not {step.name for step in work.record.steps if not step.kept} - {"half volumes"}
    assert work.record.frame_stacks[0].state != state, "hashed once, and not with every run"
    assert work.made(HALF) == "nothing"

    odd.unlink()
    assert work.made(HALF) == {"half volumes"}
    assert work.record.halves.of == "views"
    assert any("there is no B_ODD with the other" in warning for warning in work.record.warnings)
    for now, before in zip(work.halves(), of_views, strict=True):
        np.testing.assert_array_equal(now, before)
    assert not list((work.folder / "scratch").iterdir())
    assert not [path.name for path in work.output.iterdir() if "EVN" in path.name or "ODD" in path.name]


def test_where_no_halves_are_asked_for_frames_do_not_count(work):
    work.made()
    work.write_frames("B_EVN.mrc", 1)
    work.write_frames("B_ODD.mrc", 2)
    assert work.made() == "nothing"
    assert work.record.frame_stacks == []
    assert work.made(HALF) == {"half volumes"}
    assert work.made() == set()


@pytest.mark.parametrize("name", ["B_EVN.mrc", "B_ODD.mrc"])
def test_frames_that_change_while_they_are_read_fail_the_series(work, name):
    work.write_frames("B_EVN.mrc", 1)
    work.write_frames("B_ODD.mrc", 2)
    changed = []

    def meddle(progress):
        if progress.stage == "half volumes" and not changed:
            changed.append(work.write_frames(name, 5))

    result = work.run(HALF, on_progress=meddle)
    assert changed
    assert not result.ok
    assert f"{changed[0]} was changed while it was being read" in result.message
    work.write_frames(name, {"B_EVN.mrc": 1, "B_ODD.mrc": 2}[name])
    assert "half volumes" in work.made(HALF), "what was made of frames that changed is not taken over"


def test_frames_that_do_not_fit_are_told_and_alternate_views_are_taken(work):
    work.write_frames("B_EVN.mrc", 1)
    work.write_frames("B_ODD.mrc", 2, views=14)
    shown = CliRunner().invoke(app, ["inspect", str(work.source)])
    assert "14 views of 128 x 128 pixels" in " ".join(shown.output.split())
    assert work.made(HALF) >= {"half volumes"}
    assert work.record.halves.of == "views"
    assert any("B_ODD.mrc has 14 views" in warning for warning in work.record.warnings)
    work.write_frames("B_ODD.mrc", 2)
    assert "B_EVN.mrc and B_ODD.mrc" in CliRunner().invoke(app, ["inspect", str(work.source)]).output
    assert work.made(HALF) == {"half volumes"}
    assert work.record.halves.of == "frames"


def test_in_a_folder_they_are_no_series_and_that_is_said(work):
    work.write_frames("B_EVN.mrc", 1)
    work.write_frames("B_ODD.mrc", 2)
    asked = ["run", str(work.folder), "-o", str(work.folder / "out"), "--engine", "native", "--thickness", "60", "--gold", "20"]
    ran = CliRunner().invoke(app, [*asked, "--set", HALF])
    assert ran.exit_code == 0, ran.output
    assert sorted(path.name for path in (work.folder / "out").iterdir() if path.is_dir()) == ["B"]
    assert "B_EVN.mrc is left out: by its name it holds the even frames of B.st" in " ".join(ran.output.split())
    assert work.record.halves.of == "frames"
