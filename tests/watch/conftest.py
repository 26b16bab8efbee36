"""Series that arrive: written in part, whole, or without angles, which the pipeline refuses in a moment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tiltflow.formats.mrc import MrcWriter
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.watch import News, Plan, Rules, assign
from tiltflow.work import Site

LONG_AGO = 1_700_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that series arrive in."""
    made = tmp_path / "session1"
    made.mkdir()
    return made


@pytest.fixture
def write_without_angles() -> Callable[..., Path]:
    """Return the function that writes a series whose angles nothing tells, so that it fails as soon as it is read."""

    def write(path: Path, changed: float = LONG_AGO) -> Path:
        with MrcWriter(path, (3, 8, 8), np.int16, pixel_size_angstrom=10, is_stack=True) as out:
            out.write(np.ones((3, 8, 8), np.float32))
        os.utime(path, (changed, changed))
        return path

    return write


@dataclass
class Heard:
    """The news of a session."""

    news: list[News] = field(default_factory=list)

    def __call__(self, news: News) -> None:
        self.news.append(news)

    @property
    def lines(self) -> list[str]:
        return [f"{each.about}: {each.words}" for each in self.news]

    def of(self, name: str) -> list[str]:
        return [each.words for each in self.news if each.about == name]

    def wait_for(self, words: str) -> None:
        while not any(words in line for line in self.lines):
            time.sleep(0.02)

    def begun(self) -> list[str]:
        return [each.about for each in self.news if each.words.startswith("begins")]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def plan(folder: Path, tmp_path: Path) -> Callable[..., Plan]:
    """Return the function that makes a plan of one look at folders; by default at the one."""
    (tmp_path / "scratch").mkdir()

    def make(*folders: Path, priorities: tuple[str, ...] = (), thickness: int = 50, **changes: object) -> Plan:
        output = tmp_path / "out"
        asked: dict[str, object] = {
            "folders": assign(folders or (folder,), output, priorities),
            "output": output,
            "recipes": make_recipe(BrtParameters(thickness=thickness), engine="imod", fallback_engine="off"),
            "site": Site(scratch=tmp_path / "scratch"),
            "rules": Rules(still_s=1.0),
            "every_s": 0.1,
            "once": True,
        }
        return Plan(**asked | changes)  # type: ignore[arg-type]

    return make
