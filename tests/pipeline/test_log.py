"""The log of a series on a full disk."""

import logging
import sys
from pathlib import Path

import pytest

from tiltflow.pipeline.log import SeriesLogFile


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
