"""Runs whose process is gone: their records are closed, their remains removed, and the portal is told what they finished.

A run that the outbox knows leaves there what another process needs for that (:class:`RunPlan`).  What it finished is read from the
records of its series, so that nothing depends on what the dead process had in memory.
"""

from __future__ import annotations

import logging
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tiltflow.atomic_write import remove_left_behind
from tiltflow.delivery.body import CALLBACK_NAME, StatusBody, build_callback, write_callback
from tiltflow.delivery.cleanup import remove_scratch_left_behind
from tiltflow.delivery.layout import Layout
from tiltflow.delivery.outbox import Outbox, RunEntry
from tiltflow.errors import FormatError, LocationError, TiltflowError
from tiltflow.pipeline.conclusion import close_lost, result_of
from tiltflow.pipeline.job import RECORD_NAME
from tiltflow.pipeline.lock import folder_lock
from tiltflow.pipeline.standing import clean
from tiltflow.record import RunRecorder, SeriesRecord, read_record, read_run
from tiltflow.report import evidence_metadata, record_of, write_run_pages
from tiltflow.work import SeriesResult, Thresholds

GRACE_S = 600.0
"""For how long a run whose process is gone is left to whoever starts it again: Prefect does so within minutes."""
_FOREIGN_S = 6 * 3600.0
"""After how long without a word a run of another machine or container counts as dead; it says a word every few seconds."""
_ENDED = "the run ended before this series was done (its process died); run the same command again"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What a run sets out to do, as far as another process needs it to end the run in order.

    Attributes
    ----------
    layout
        Where the inputs and the products are, and how the portal names them.
    digests
        Of each series the digest of its recipe.
    output
        The folder with the record of the run and its callback.
    evidence
        Whether verdict and figures go to the portal.
    command, folder
        What was called, and where; empty where an orchestrator calls.
    """

    layout: Layout
    digests: Mapping[Path, str]
    output: Path
    evidence: bool
    command: tuple[str, ...] = ()
    folder: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the plan as the outbox keeps it."""
        layout = self.layout
        return {
            "inputs": str(layout.inputs),
            "assets": str(layout.assets),
            "input_folder": str(layout.folder),
            "share": str(layout.share) if layout.share is not None else None,
            "swap_volume_types": layout.swap_volume_types,
            "series": {str(source): digest for source, digest in self.digests.items()},
            "output": str(self.output),
            "evidence": self.evidence,
            "command": list(self.command),
            "folder": self.folder,
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> RunPlan:
        """Return the plan from what the outbox kept.

        Raises
        ------
        FormatError
            If that is no plan.
        """
        try:
            share = kept["share"]
            return cls(
                layout=Layout(
                    inputs=Path(kept["inputs"]),
                    assets=Path(kept["assets"]),
                    folder=Path(kept["input_folder"]),
                    share=Path(share) if share is not None else None,
                    swap_volume_types=bool(kept.get("swap_volume_types")),
                ),
                digests={Path(source): str(digest) for source, digest in kept["series"].items()},
                output=Path(kept["output"]),
                evidence=bool(kept["evidence"]),
                command=tuple(kept["command"]),
                folder=kept["folder"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"What the outbox keeps of a run cannot be understood ({error!r}).") from error


@dataclass(frozen=True, slots=True)
class Closed:
    """A run that was closed in the place of its process.

    Attributes
    ----------
    entry
        The run, as the outbox has it.
    results
        Of its series.
    words
        What was found and done.
    again
        The command that does the rest; None where an orchestrator called, or nothing is left to do.
    """

    entry: RunEntry
    results: tuple[SeriesResult, ...]
    words: str
    again: Again | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """A command, and the folder that it was called in."""

    command: tuple[str, ...]
    folder: str

    @property
    def line(self) -> str:
        """The command as a line for a shell."""
        return f"cd {shlex.quote(self.folder)} && {shlex.join(self.command)}"


def close_dead_runs(
    outbox: Outbox, thresholds: Thresholds, scratch: Path | None, *, grace_s: float = GRACE_S, spared: Iterable[str] = ()
) -> list[Closed]:
    """Close the runs in the outbox whose process is gone, and return what was done; the portal's messages wait in the outbox then.

    A run is left alone while another one works on one of its series.

    Parameters
    ----------
    outbox
        Knows the runs.
    thresholds
        Of the verdict.
    scratch
        Where scratch folders are; what dead runs left there is removed.
    grace_s
        For how long a run that an orchestrator called is left alone after the last word of its process.
    spared
        Names of runs to leave alone.

    Raises
    ------
    DeliveryError
        If the outbox cannot be read or written.
    """
    closed = []
    for entry in outbox.unfinished():
        if entry.run in set(spared) or not _is_dead(entry, outbox.clock(), grace_s):
            continue
        try:
            closed.append(close_dead_run(outbox, entry, thresholds))
        except _BusyError as busy:
            _log.info("%s: its process is gone, but %s", entry.about, busy)
        except Exception as error:  # noqa: BLE001  the boundary: one run that cannot be closed is no reason to leave the others
            _log.warning("%s: its process is gone, and it cannot be closed: %s", entry.about, error)
    remove_scratch_left_behind(scratch or Path(tempfile.gettempdir()))
    return closed


def dead_run_like(outbox: Outbox, wanted: RunEntry) -> str | None:
    """Return the name of a run of the same series to the same folder, told to the same portal in the same name, whose process is gone.

    A new run goes on in its place: it is this process's from now on.

    Raises
    ------
    DeliveryError
        If the outbox cannot be read.
    """
    for entry in outbox.unfinished():
        same = (entry.url, entry.token, entry.site_token) == (wanted.url, wanted.token, wanted.site_token)
        if same and is_same_work(entry.plan, wanted.plan) and entry.is_dead and outbox.claim(entry):
            return entry.run
    return None


def is_same_work(plan: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two plans make the same of the same series."""
    return bool(plan) and all(plan.get(each) == other.get(each) for each in ("output", "series"))


def commands_of_dead_runs(outbox: Outbox) -> list[tuple[RunEntry, Again]]:
    """Return the runs whose process is gone and the commands that take them up again, where a command began them.

    Raises
    ------
    DeliveryError
        If the outbox cannot be read.
    """
    dead = [entry for entry in outbox.unfinished() if entry.plan.get("command") and entry.is_dead]
    return [(entry, Again(tuple(entry.plan["command"]), str(entry.plan["folder"]))) for entry in dead]


def close_dead_run(outbox: Outbox, entry: RunEntry, thresholds: Thresholds, *, even_if_nothing_was_done: bool = True) -> Closed:
    """Close the records of a run that ended without its last word, and put what the portal is to be told into the outbox.

    Parameters
    ----------
    outbox, entry
        Where the run stands, and what stands there.
    thresholds
        Of the verdict.
    even_if_nothing_was_done
        Whether the portal is told the reason of each series, too, where none is done, or only that the run is over.

    Raises
    ------
    DeliveryError
        If the outbox cannot be written.
    TiltflowError
        If another process works on a series of it, or has taken it up.
    """
    if not entry.plan:  # it died before it knew what there is to do
        _claim(outbox, entry)
        _say_the_last_word(outbox, entry, "error")
        return Closed(entry, (), "it died before its work began")
    try:
        plan = RunPlan.from_json(entry.plan)
        results = tuple(_settled(source, plan, entry, thresholds) for source in plan.digests)
    except (FormatError, LocationError, OSError, ValueError) as error:
        _claim(outbox, entry)
        _say_the_last_word(outbox, entry, "error")
        return Closed(entry, (), f"what it finished cannot be found out ({error})")
    _claim(outbox, entry)
    unfinished = [result for result in results if not result.ok and result.message == _ENDED]
    with _no_reason_to_leave_it_open(entry):
        _close_run_record(plan.output, results, thresholds)
    if entry.url is not None and (even_if_nothing_was_done or any(result.ok for result in results)):
        with _no_reason_to_leave_it_open(entry):
            _put_results(outbox, entry, plan, results)
    succeeded = any(result.ok for result in results) and not unfinished
    _say_the_last_word(outbox, entry, "success" if succeeded else "error")
    done = sum(result.ok for result in results)
    again = Again(plan.command, plan.folder) if unfinished and plan.command else None
    return Closed(entry, results, f"{done} of {len(results)} series were done when its process died", again)


def _claim(outbox: Outbox, entry: RunEntry) -> None:
    if not outbox.claim(entry):
        raise _BusyError("another process has taken it up")


@contextmanager
def _no_reason_to_leave_it_open(entry: RunEntry) -> Iterator[None]:
    """Let what cannot be done for a dead run be a warning: the portal must hear that it is over."""
    try:
        yield
    except (TiltflowError, OSError, ValueError) as error:
        _log.warning("%s: not all that it finished can be told: %s", entry.about, error)


def _put_results(outbox: Outbox, entry: RunEntry, plan: RunPlan, results: Sequence[SeriesResult]) -> None:
    """Write down what a dead run had still to tell of its results: one by one, if it had begun to tell them so."""
    evidence = {one.source: evidence_metadata(record_of(one)) for one in results} if plan.evidence else {}
    whole = build_callback(results, plan.layout, evidence)
    told = {
        message.about
        for message in outbox.messages()
        if (message.run, message.times, message.kind) == (entry.run, entry.times, "result") and message.state != "dropped"
    }
    if not told:
        outbox.put(entry.run, "result", entry.about, whole.model_dump_json())
    elif entry.about not in told:  # else it died after its results were written down, and before its last word
        for result in results:  # what it told word for word is not told again
            body = build_callback([result], plan.layout, evidence)
            outbox.put(entry.run, "result", result.source.name, body.model_dump_json())
    write_callback(whole, plan.output / CALLBACK_NAME)


def _settled(source: Path, plan: RunPlan, entry: RunEntry, thresholds: Thresholds) -> SeriesResult:
    """Return what a dead run made of one series, with its record closed and its remains removed."""
    output = plan.layout.output_of(source)
    lost = SeriesResult(source=source, status="error", message=_ENDED, stage="start", output=output)
    if not output.is_dir():
        return lost
    with folder_lock(output, _refuse_to_wait):
        clean(output)
        record = _record_in(output)
        if record is not None and record.status == "running":
            close_lost(lost, thresholds)
        elif record is not None and _is_of(record, plan.digests[source], entry):
            return replace(result_of(record, output), source=source)
    return lost


def _is_of(record: SeriesRecord, digest: str, entry: RunEntry) -> bool:
    """Return whether a record is of a run, or of an earlier one that asked for the same."""
    begun = datetime.fromtimestamp(entry.begun, UTC)
    return record.started >= begun or (
        record.status == "success" and record.recipe is not None and record.recipe.requested == digest
    )


def _record_in(output: Path) -> SeriesRecord | None:
    try:
        return read_record(output / RECORD_NAME)
    except (OSError, FormatError):
        return None


def _close_run_record(output: Path, results: Sequence[SeriesResult], thresholds: Thresholds) -> None:
    """Close the record of the run, where there is one that is still open."""
    remove_left_behind(output)
    try:
        record = read_run(output / RECORD_NAME)
    except (OSError, FormatError):
        return
    if record.status != "running":
        return
    recorder = RunRecorder(output / RECORD_NAME, record)
    for result in results:
        recorder.done(result)
    recorder.close("interrupted")
    write_run_pages(output, thresholds)


def _say_the_last_word(outbox: Outbox, entry: RunEntry, status: str) -> None:
    if entry.url is None:
        outbox.end(entry.run)
    else:
        outbox.put(entry.run, "final", entry.about, StatusBody.model_validate({"status": status}).model_dump_json())


def _is_dead(entry: RunEntry, now: float, grace_s: float) -> bool:
    silent_s, gone = now - entry.seen, entry.is_dead
    if gone is None:
        return silent_s > _FOREIGN_S
    return gone and (silent_s > grace_s or bool(entry.plan.get("command")))


class _BusyError(TiltflowError):
    """Another run works on a series."""


def _refuse_to_wait(word: str) -> None:
    raise _BusyError(word)
