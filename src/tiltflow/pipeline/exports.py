"""Exports to other programs as part of the work: written after the products, and for a result that is kept where they are missing."""

from __future__ import annotations

import logging
from pathlib import Path

from tiltflow.errors import TiltflowError
from tiltflow.interchange.export import EXPORT_FOLDER, export_series
from tiltflow.pipeline.job import Job
from tiltflow.record import Recorder

_log = logging.getLogger(__name__)


def make_exports(job: Job, recorder: Recorder) -> None:
    """Write a finished series for every program that the site asks for; one that fails becomes a warning, and costs no other."""
    if not job.site.export:
        return
    with recorder.stage("export") as notes:
        for name in job.site.export:
            try:
                for made in export_series(job.output, [name], recorder.record):
                    for remark in made.remarks:
                        notes.note(f"{name}: {remark}")
            except TiltflowError as error:
                notes.warn(f"{name}: {error}")


def complete_exports(name: str, output: Path, wanted: tuple[str, ...]) -> None:
    """Write the exports that an earlier result lacks; what fails is logged."""
    for target in wanted:
        if (output / EXPORT_FOLDER / target).is_dir():
            continue
        try:
            for made in export_series(output, [target]):
                _log.info("%s: exported to %s", name, made.folder)
        except TiltflowError as error:
            _log.warning("%s: export to %s: %s", name, target, error)
