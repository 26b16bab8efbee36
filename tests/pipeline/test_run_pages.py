"""The pages of a run in progress: not written too often, and never left behind."""

from __future__ import annotations

import shutil

from tiltflow.pipeline.run import RunPages
from tiltflow.report import INDEX_NAME
from tiltflow.work import Site


def test_pages_that_came_too_soon_are_caught_up_with_later(finished_run, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(finished_run.folder, folder)
    pages, index = RunPages(folder, Site()), folder / INDEX_NAME

    def is_written(step):
        index.unlink(missing_ok=True)
        step()
        return index.exists()

    assert not is_written(pages.catch_up), "nothing is new"
    assert is_written(pages.refresh)
    assert not is_written(pages.refresh), "a moment ago"
    assert not is_written(pages.catch_up)
    pages._next = 0.0  # long ago
    assert is_written(pages.catch_up)
    assert not is_written(pages.catch_up), "nothing is new since"
