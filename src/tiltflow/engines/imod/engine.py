"""Runs `batchruntomo` with a rendered directive file, follows its log, and checks its outputs.

Neither the files it leaves nor its exit status alone show that it succeeded: the status must be 0, the log must report success
without an `ABORT SET` line, and the outputs must be readable.  `ERROR:` lines of steps that it then did another way become warnings.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path

from tiltflow import command
from tiltflow.disk import copy_file
from tiltflow.engines.base import EngineJob
from tiltflow.engines.imod.fit_figures import parse_fit_figures
from tiltflow.engines.imod.log_reader import LogReader
from tiltflow.engines.imod.montage import OffsetsOf, blend_by, directives_instead, pieces_offsets, write_piece_files
from tiltflow.engines.imod.program import LIMIT, PROGRAM, arguments, audits, required_imod, time_limit_s
from tiltflow.engines.imod.requirements import plan_series
from tiltflow.engines.imod.result_audit import audit_result
from tiltflow.engines.imod.stack_copy import copy_stack, safe_name
from tiltflow.errors import CommandError, EngineError, FormatError
from tiltflow.formats.mrc import open_mrc
from tiltflow.formats.stacks import open_stack
from tiltflow.formats.tilts import read_tilts
from tiltflow.formats.transforms import read_transforms
from tiltflow.geometry import common_axis_angle
from tiltflow.model import Alignment, Evidence, Reconstruction
from tiltflow.observer import StageObserver
from tiltflow.preprocess.montage import PieceOffsets
from tiltflow.recipe import render_adoc

_log = logging.getLogger(__name__)


_SIDE_FILES = (".rawtlt", ".mdoc", ".pl", ".defocus")
_OLD_NAMES = {"_ali.mrc": (".ali",), "_rec.mrc": (".rec",)}
_SET_UP, _AFTER_SET_UP = ("-end", "0"), ("-start", "1")
"""Steps of batchruntomo.  Of a set-up alone IMOD 4 does not report that the data set is complete."""


def reconstruct_series(job: EngineJob, offsets_of: OffsetsOf = pieces_offsets) -> Reconstruction:
    """Run batchruntomo on a copy of the series and return its outputs.

    Parameters
    ----------
    job
        The series and the work folder.
    offsets_of
        Finds where the pieces of a montage were taken.

    Raises
    ------
    EngineError
        If batchruntomo failed; the message quotes its own error lines and names the step.
    """
    return _Batchruntomo(offsets_of).reconstruct(job)


class _Batchruntomo:
    """Runs `batchruntomo -di B.adoc -cp N -gpu G` in the work folder."""

    def __init__(self, offsets_of: OffsetsOf) -> None:
        self._offsets_of = offsets_of

    def reconstruct(self, job: EngineJob) -> Reconstruction:
        offsets = self._offsets(job)
        with job.recorder.stage("batchruntomo") as notes:
            try:
                directives = self._prepare(job)
                rest: tuple[str, ...] = ()
                if offsets is not None and job.series.montage is not None:
                    self._run(job, directives, notes, _SET_UP)
                    blend_by(job.series.montage, offsets.offset_px, directives.with_suffix(".st"))
                    rest = _AFTER_SET_UP
                reading = self._run(job, directives, notes, rest)
            finally:
                _name_after_series(job)
            outputs = {suffix: self._output(job, suffix, reading) for suffix in ("_ali.mrc", "_rec.mrc", ".xf", ".tlt")}
            alignment = self._alignment(job)
            for name, value in _numbers(alignment.evidence).items():
                notes.number(name, value, "px" if name.endswith("_px") else "")
        if audits(job.site):
            alignment = audit_result(job, alignment, _fit_logs(job), offsets)
        return Reconstruction(
            aligned=outputs["_ali.mrc"],
            volume=outputs["_rec.mrc"],
            transforms=outputs[".xf"],
            tilts=outputs[".tlt"],
            alignment=alignment,
        )

    def _offsets(self, job: EngineJob) -> PieceOffsets | None:
        """Return the offsets of the pieces of a montage; None where there are none, or nothing finds them."""
        if job.series.montage is None:
            return None
        with open_stack(job.series.path) as raw:
            return self._offsets_of(job, raw)

    def _prepare(self, job: EngineJob) -> Path:
        """Copy the series and the files beside it, because batchruntomo changes (and archives) its input; write the directives."""
        source = job.series.path
        stack = copy_stack(job.series, job.workdir)
        for suffix in _SIDE_FILES:
            for beside, copy in (
                (source.with_suffix(suffix), stack.stem + suffix),
                (Path(f"{source}{suffix}"), stack.name + suffix),
            ):
                if beside.is_file():
                    copy_file(beside, job.workdir / copy)
        if job.series.montage is not None:
            write_piece_files(job.series, job.series.montage, stack)
        directives = job.workdir / f"{stack.stem}.adoc"
        text = render_adoc(
            job.recipe,
            name=stack.stem,
            stackext=stack.suffix.lstrip("."),
            dataset_directory=str(job.workdir),
            instead=directives_instead(job.series, job.recipe),
        )
        directives.write_text(text, encoding="utf-8")
        return directives

    def _run(self, job: EngineJob, directives: Path, notes: StageObserver, steps: tuple[str, ...] = ()) -> LogReader:
        """Run all of batchruntomo or some steps; the log of the second call is added to that of the first."""
        args = ["-di", directives.name, *arguments(job.site), *steps]
        reading = LogReader()
        with (job.workdir / "batchruntomo.log").open("a" if steps == _AFTER_SET_UP else "w", encoding="utf-8") as log:

            def take(line: str) -> None:
                log.write(line + "\n")
                log.flush()
                _log.debug("%s: %s", job.series.name, line)
                before = reading.fraction
                reading.take(line)
                if reading.fraction > before:
                    notes.progress(reading.fraction)

            planned = plan_series(job.series, job.recipe, job.site.threads)
            limit_s = time_limit_s(job.site.engine_options, planned.seconds)
            program = required_imod(job.series.path.name)
            try:
                result = command.run(program, args, cwd=job.workdir, on_line=take, limit_s=limit_s)
            except CommandError as error:
                what = f"ended with status {error.status}"
                if error.status == command.TOO_LONG:
                    what = f"was ended after {limit_s:.0f} s, the longest that it may take (setting {LIMIT}),"
                raise self._failure(job, reading, error.last_lines, what) from error
        if reading.aborted:
            raise self._failure(job, reading, result.last_lines, "gave up")
        if not reading.succeeded and steps != _SET_UP:
            raise self._failure(job, reading, result.last_lines, "ended without reporting that it completed the data set")
        for complaint in reading.complaints:
            job.recorder.warn(f"{PROGRAM} continued after: {complaint}")
        return reading

    def _failure(self, job: EngineJob, reading: LogReader, last_lines: tuple[str, ...], what: str) -> EngineError:
        quoted = reading.complaints or [line for line in last_lines if line.strip()][-5:] or ["(it printed nothing)"]
        return EngineError(
            f"{PROGRAM} {what} on {job.series.path.name} at {reading.where}. IMOD says:\n  "
            + "\n  ".join(quoted[-8:])
            + "\nThe whole log is batchruntomo.log beside the results."
        )

    def _output(self, job: EngineJob, suffix: str, reading: LogReader) -> Path:
        """Return an output under its modern name, after opening it."""
        path = job.path(suffix)
        for old in _OLD_NAMES.get(suffix, ()):
            if not path.exists() and job.path(old).exists():
                job.path(old).rename(path)
        if not path.is_file():
            found = ", ".join(sorted(item.name for item in job.workdir.iterdir() if item.is_file()))
            raise EngineError(
                f"{PROGRAM} reported that it completed {job.series.name} ({reading.where}) but {path.name} is missing; there are: {found}"
            )
        try:
            if suffix == ".xf":
                rows = len(read_transforms(path))
            elif suffix == ".tlt":
                rows = len(read_tilts(path))
            else:
                rows = None
                open_mrc(path)
        except FormatError as error:
            raise EngineError(
                f"{PROGRAM} reported that it completed {job.series.name}, but {path.name} cannot be read: {error}"
            ) from error
        if rows is not None and rows != job.series.shape[0]:
            raise EngineError(f"{path.name} has {rows} lines for {job.series.shape[0]} views of {job.series.path.name}")
        return path

    def _alignment(self, job: EngineJob) -> Alignment:
        """Return the alignment with the figures of the last fit, from the logs that tiltalign leaves."""
        transforms = read_transforms(job.path(".xf"))
        return Alignment(
            transforms=transforms,
            tilt_deg=read_tilts(job.path(".tlt")),
            included=job.series.included,
            method="coarse" if job.recipe.method == "projection" else job.recipe.method,
            evidence=Evidence(
                **asdict(parse_fit_figures(_fit_logs(job), job.series.pixel_size_angstrom)),
                axis_angle_nominal_deg=job.series.axis_angle_deg if job.series.axis_is_told else None,
                axis_angle_from_data_deg=common_axis_angle(transforms),
            ),
        )


def _name_after_series(job: EngineJob) -> None:
    """Give the files that IMOD made under a safe name the true one."""
    name, safe = job.series.name, safe_name(job.series.name)
    if safe == name:
        return
    for path in list(job.workdir.iterdir()):
        if path.name.startswith(safe):
            path.rename(path.with_name(name + path.name.removeprefix(safe)))


def _fit_logs(job: EngineJob) -> str:
    return "\n".join(
        path.read_text(encoding="utf-8", errors="replace")
        for path in (job.workdir / "align.log", job.workdir / "taSolution.log")
        if path.is_file()
    )


def _numbers(evidence: Evidence) -> dict[str, float]:
    names = ("residual_mean_px", "residual_sd_px", "residual_weighted_mean_px", "leave_out_px", "measurements", "unknowns")
    return {name: getattr(evidence, name) for name in names if getattr(evidence, name) is not None}
