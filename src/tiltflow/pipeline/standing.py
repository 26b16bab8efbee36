"""A result that stands: while a series is done again, and after that fails, its earlier result is there whole, with its record.

Before an attempt over a success begins, the record, the page and the pictures, which it writes over, are set aside.  Products are
replaced all together at its end.  An attempt that fails leaves its own record, page, logs and files in a folder of its own, and what was
set aside is put back, with a word on the attempt.  Only if products were replaced in part is the earlier result gone, with all its
products.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tiltflow.atomic_write import PARTIAL_PREFIX, atomic_write, remove_left_behind, write_text
from tiltflow.delivery.layout import refuse_inputs, refuse_links
from tiltflow.delivery.publish import publish
from tiltflow.disk import copy_file, remove
from tiltflow.errors import FormatError, TiltflowError
from tiltflow.interchange.export import EXPORT_FOLDER
from tiltflow.pipeline.failure import optional
from tiltflow.pipeline.intact import damaged
from tiltflow.pipeline.job import RECORD_NAME
from tiltflow.pipeline.step_book import unfinished_folder
from tiltflow.record import FailedAttemptEntry, Recorder, SeriesRecord, read_record
from tiltflow.record.steps import forget
from tiltflow.report import PAGE_NAME, write_series_page
from tiltflow.report.pictures import FOLDER as PICTURES
from tiltflow.work import Site, Thresholds

FAILED_FOLDER = "failed-attempt"
"""In the folder of a series whose result stands: what a newer attempt left that failed."""
_ASIDE = f"{PARTIAL_PREFIX}earlier"
_REPLACING = "replacing"
"""In the folder of what is set aside, once the attempt has begun to replace products: a list of those that were damaged before."""

_log = logging.getLogger(__name__)


def success_in(output: Path) -> SeriesRecord | None:
    """Return the record of the success that a folder holds.

    Raises
    ------
    FormatError
        If there is a record, but not one that this version understands.
    """
    try:
        record = read_record(output / RECORD_NAME)
    except OSError:
        return None
    return record if record.status == "success" else None


def set_aside(output: Path) -> None:
    """Set aside what an attempt writes over, if the folder of the series holds a success."""
    try:
        if success_in(output) is None:
            return
    except FormatError:
        return
    with atomic_write(output / _ASIDE, durable=True) as partial:
        partial.mkdir()
        for name in (RECORD_NAME, PAGE_NAME):
            if (output / name).is_file():
                copy_file(output / name, partial / name)
        if (output / PICTURES).is_dir():
            (partial / PICTURES).mkdir()
            for picture in (output / PICTURES).iterdir():
                if picture.is_file():
                    copy_file(picture, partial / PICTURES / picture.name)


def stands(output: Path) -> SeriesRecord | None:
    """Return the record of the result that is set aside; None where there is none."""
    try:
        return success_in(output / _ASIDE)
    except FormatError:
        return None


def note_replacing(output: Path) -> None:
    """Note that products are replaced from now on, so that the earlier result may be a mixture, and what of it was not whole before."""
    record = stands(output)
    if record is not None:
        write_text(output / _ASIDE / _REPLACING, json.dumps(damaged(record, output, contents=False)), durable=True)


def let_go(output: Path) -> None:
    """Forget what is set aside, and an attempt that failed before: there is a newer result."""
    shutil.rmtree(output / FAILED_FOLDER, ignore_errors=True)
    shutil.rmtree(output / _ASIDE, ignore_errors=True)


def still_whole(output: Path) -> bool:
    """Return whether there is an earlier result and none of its files was replaced; if one was, all of its products go."""
    record = stands(output)
    if record is None:
        return False
    if not (output / _ASIDE / _REPLACING).exists() or not _replaced_in_part(record, output):
        return True
    for top in {Path(product.path).parts[0] for product in record.products}:
        remove(output / top)
    forget(output, record.name, [*(product.path for product in record.products), *(file.path for file in record.files)])
    shutil.rmtree(output / _ASIDE, ignore_errors=True)
    return False


def _replaced_in_part(record: SeriesRecord, output: Path) -> bool:
    """Return whether a file of a result is gone or holds something else since replacing began; its pictures are set aside."""
    before = set(json.loads((output / _ASIDE / _REPLACING).read_bytes()))
    return any(path not in before and not path.startswith(f"{PICTURES}/") for path in damaged(record, output))


def keep_attempt(output: Path, files: list[Path]) -> Path:
    """Return the folder of an attempt that failed, with the files that it left and its pictures; what cannot be written is logged."""
    place = output / FAILED_FOLDER
    shutil.rmtree(place, ignore_errors=True)
    pictures = [output / PICTURES] if (output / PICTURES).is_dir() else []
    try:
        publish([*files, *pictures], place)
    except TiltflowError as error:
        _log.warning("%s: what the failed attempt left is not kept: %s", output.name, error)
    return place


def put_back(output: Path, attempt: FailedAttemptEntry, thresholds: Thresholds) -> None:
    """Put the earlier result's record, page and pictures back, with a word on the attempt that failed.

    They are renamed into place, the record last, which needs no space and can be done again by the next run if this one is killed.
    """
    aside = output / _ASIDE
    if (aside / PICTURES).is_dir():
        shutil.rmtree(output / PICTURES, ignore_errors=True)
        (aside / PICTURES).rename(output / PICTURES)
    if (aside / PAGE_NAME).is_file():
        (aside / PAGE_NAME).replace(output / PAGE_NAME)
    record = read_record(aside / RECORD_NAME)
    (aside / RECORD_NAME).replace(output / RECORD_NAME)
    shutil.rmtree(aside, ignore_errors=True)
    record.failed_attempt = attempt
    recorder = Recorder(output / RECORD_NAME, record)
    with optional(recorder, "the report"):
        write_series_page(output, record, thresholds)


def refuse_elsewhere(output: Path, site: Site) -> None:
    """Raise before the first write if anything that the work on a series writes would land elsewhere than in its folder and in scratch.

    Raises
    ------
    LocationError
        If the folder, or one in it, is a symbolic link, or lies among the inputs of a share, as scratch may not either.
    """
    folders = (PICTURES, EXPORT_FOLDER, FAILED_FOLDER, _ASIDE, unfinished_folder(output).name)
    refuse_links(output, folders)
    refuse_inputs(site.mounts, output, "The folder for the products")
    refuse_inputs(site.mounts, site.scratch or Path(tempfile.gettempdir()), "The scratch folder")


def clean(output: Path) -> None:
    """Remove the hidden files that killed runs left in the folder of a series, and in those in it that are written to in place."""
    for folder in (output, output / PICTURES, output / EXPORT_FOLDER):
        remove_left_behind(folder)


def recover(output: Path, thresholds: Thresholds, why: str = "its process died") -> None:
    """Put an earlier result back whose newer attempt was killed; `why` is what is known of that."""
    with contextlib.suppress(FormatError):
        if (newest := success_in(output)) is not None:
            # Set aside are its own record and pictures, or those of a result before it, with what failed between the two.
            earlier = stands(output)
            if earlier is not None and earlier.started != newest.started:
                let_go(output)
            shutil.rmtree(output / _ASIDE, ignore_errors=True)
            return
    if not still_whole(output):
        return
    try:
        died = read_record(output / RECORD_NAME)
    except (OSError, FormatError):
        died = None
    at_work = next((entry.name for entry in reversed(died.stages) if entry.status == "running"), "") if died else ""
    begun = died.started if died else datetime.now(UTC)
    put_back(output, FailedAttemptEntry(started=begun, stage=at_work or "start", reason=why), thresholds)


def attempt_of(record: SeriesRecord, why_again: str, *, answered: bool) -> FailedAttemptEntry:
    """Return what the record of a result says of a newer attempt that failed, from the attempt's own record."""
    failure = record.failure
    return FailedAttemptEntry(
        started=record.started,
        finished=record.finished,
        stage=failure.stage if failure else "start",
        reason=failure.reason if failure else "",
        kind=failure.kind if failure else "",
        why_again=why_again,
        answered=answered,
        record=f"{FAILED_FOLDER}/{RECORD_NAME}",
    )


def message_of(message: str, earlier: SeriesRecord, *, answered: bool) -> str:
    """Return the message of an attempt that failed, with what has become of the earlier result."""
    made = f"the earlier result, of {earlier.started:%Y-%m-%d %H:%M} UTC, is kept unchanged"
    other = "; it was made from another request or another input, so that it does not answer this one"
    return f"{message}\n({made}{'' if answered else other})"
