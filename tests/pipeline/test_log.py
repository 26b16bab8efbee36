"""The log of a series on a full disk."""

import logging
import sys
from pathlib import Path

import pytest

from tiltflow.pipeline.log import SeriesLogFile, is_of_a_series, series_log


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_log_for_which_there_is_no_room_ends_nothing_and_shows_no_traceback(capsys):
    logger, handler = logging.getLogger("tiltflow.full"), SeriesLogFile(Path("/dev/full"))
    logger.addHandler(handler)
    try:
        logger.warning("a word")
    finally:
        logger.removeHandler(handler)
        handler.close()
    assert capsys.readouterr().err == ""


def test_what_is_logged_during_the_work_on_a_series_is_told_from_the_rest(tmp_path):
    record = logging.makeLogRecord({})
    assert not is_of_a_series(record)
    with series_log(tmp_path, "B"):
        assert is_of_a_series(record)
    assert not is_of_a_series(record)


def test_a_log_that_goes_on_is_added_to_and_one_that_cannot_be_opened_costs_nothing(tmp_path):
    log = logging.getLogger("tiltflow.test")
    with series_log(tmp_path, "B"):
        log.info("first")
    with series_log(tmp_path, "B", goes_on=True):
        log.info("second")
    with series_log(tmp_path, "B", goes_on=True):
        pass
    assert [line.split()[-1] for line in (tmp_path / "B.log").read_text().splitlines()] == ["first", "second"]
    (tmp_path / "B.log").unlink()
    (tmp_path / "B.log").mkdir()
    with series_log(tmp_path, "B", goes_on=True):
        log.info("third")
