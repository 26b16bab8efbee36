"""The commands for what the portal is to be told, and for runs that ended without telling it."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiltflow.cli.application import NOT_TOLD, SOME_FAILED, begin_work, stoppable, usage_errors
from tiltflow.cli.command_list import commands

if TYPE_CHECKING:
    from tiltflow.delivery.outbox import Message, Outbox
    from tiltflow.settings import Settings

_ROUND_S = 30.0
"""How often `send --wait` looks for what is due."""

outbox_app = typer.Typer(no_args_is_help=True, help="What the portal is to be told: kept until it was told.")
commands.add_typer(outbox_app, name="outbox")

Numbers = Annotated[list[int] | None, typer.Argument(metavar="NUMBER...", help="Of messages, as `list` has them.")]
Every = Annotated[bool, typer.Option("--all", help="All that are refused or wait.")]


@outbox_app.command("list")
def show(
    told: Annotated[bool, typer.Option("--all", help="Also what was told or dropped in the last 30 days.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Whole, with what is sent, as JSON.")] = False,
) -> None:
    """List what waits to be told, or was refused: exit status 4 if there is any."""
    from tiltflow import console

    with usage_errors():
        outbox, _ = _open()
        messages = outbox.messages() if told else outbox.messages("waiting", "refused")
    if as_json:
        typer.echo(json.dumps([_entry(message) for message in messages], indent=1))
    elif messages:
        for message in messages:
            console.out.print(_described(message, outbox.clock()), markup=False, highlight=False)
    else:
        console.out.print(f"nothing waits in {outbox.path}", markup=False)
    raise typer.Exit(NOT_TOLD if any(message.state in ("waiting", "refused") for message in messages) else 0)


@outbox_app.command()
def send(
    wait: Annotated[
        float, typer.Option("--wait", min=0.0, metavar="HOURS", help="Go on trying for so long; 0 tries each message once.")
    ] = 0.0,
) -> None:
    """Send what waits: exit status 4 if the portal did not take all of it."""
    begin_work(verbose=False)
    with usage_errors():
        outbox, settings = _open()
    with stoppable():
        status = _send(outbox, settings, wait * 3600.0)
    raise typer.Exit(status)


@outbox_app.command()
def retry(numbers: Numbers = None, *, every: Every = False) -> None:
    """Let messages wait to be sent once more, refused ones for instance when the token is right again; then `send`."""
    with usage_errors():
        outbox, _ = _open()
        _report("to be sent again", outbox.retry(_chosen(outbox, numbers, every=every)), numbers)


@outbox_app.command()
def drop(numbers: Numbers = None, *, every: Every = False) -> None:
    """Never send messages."""
    with usage_errors():
        outbox, _ = _open()
        _report("dropped", outbox.drop(_chosen(outbox, numbers, every=every)), numbers)


@commands.command()
def reconcile(
    resume: Annotated[bool, typer.Option("--resume", help="Call the commands of such runs again, one after the other.")] = False,
    grace: Annotated[
        float,
        typer.Option("--grace", min=0.0, metavar="SECONDS", help="Leave flows alone that died more recently: they are restarted."),
    ] = 600.0,
) -> None:
    """Find runs whose process died: close their records, remove what they left, and tell the portal what they finished."""
    from tiltflow import console
    from tiltflow.pipeline.dead_runs import close_dead_runs, commands_of_dead_runs

    begin_work(verbose=False)
    failed = 0
    with usage_errors():
        outbox, settings = _open()
        if resume:
            for entry, again in commands_of_dead_runs(outbox):
                console.out.print(f"{entry.about}: {again.line}", markup=False)
                try:
                    failed += subprocess.run(again.command, cwd=again.folder, check=False).returncode != 0
                except OSError as error:
                    failed += 1
                    console.err.print(f"! it cannot be called: {error}", style="yellow", markup=False)
        closed = close_dead_runs(outbox, settings.verdict, settings.scratch, grace_s=grace)
    for each in closed:
        console.out.print(f"{each.entry.about}: {each.words}", markup=False)
        if each.again is not None:
            console.out.print(f"  the rest is done by: {each.again.line}", markup=False)
    if not closed:
        console.out.print("no run has died", markup=False)
    with stoppable():
        status = _send(outbox, settings, 0.0) if closed else 0
    raise typer.Exit(SOME_FAILED if failed else status)


def _open() -> tuple[Outbox, Settings]:
    """Return the outbox of this site, and the settings."""
    from tiltflow.delivery.outbox import open_outbox
    from tiltflow.settings import load_certificates, load_settings

    settings = load_settings()
    return open_outbox(settings.state_folders, load_certificates()), settings


def _send(outbox: Outbox, settings: Settings, seconds: float) -> int:
    """Send what waits, for so long, print what became of it, and return the exit status."""
    from tiltflow import console, stopping
    from tiltflow.delivery.outbox import deliver
    from tiltflow.settings import load_token

    end, only_due = time.monotonic() + seconds, False
    while True:
        made = deliver(outbox, lambda: load_token(settings), only_due=only_due)
        for word, messages in (("told", made.sent), ("refused", made.refused)):
            for message in messages:
                console.out.print(f"{word}: {message.kind} of {message.about}", markup=False)
        if made.problem is not None:
            console.err.print(f"! {made.problem}", style="yellow", markup=False)
        left = len(outbox.messages("waiting"))
        if not left or time.monotonic() + _ROUND_S > end:
            break
        only_due = True
        stopping.pause(_ROUND_S)
    refused = len(outbox.messages("refused"))
    said = [f"{_messages(left)} still to be told"] if left else []
    said += [f"{_messages(refused)} refused (`tiltflow outbox list`)"] if refused else []
    console.out.print("; ".join(said) or "all is told", markup=False)
    return NOT_TOLD if left or made.refused else 0


def _chosen(outbox: Outbox, numbers: list[int] | None, *, every: bool) -> list[int]:
    from tiltflow.errors import ParameterError

    if every:
        return [message.number for message in outbox.messages("waiting", "refused")]
    if not numbers:
        raise ParameterError("no message is chosen: give numbers, as `tiltflow outbox list` has them, or --all")
    return numbers


def _report(what: str, done: list[int], asked: list[int] | None) -> None:
    from tiltflow import console
    from tiltflow.errors import ParameterError

    console.out.print(f"{_messages(len(done))} {what}", markup=False)
    if lacking := sorted({*(asked or [])} - {*done}):
        raise ParameterError(f"no such message in the outbox, or none that this can be done with: {', '.join(map(str, lacking))}")


def _entry(message: Message) -> dict[str, object]:
    import httpx

    return {
        "number": message.number,
        "state": message.state,
        "kind": message.kind,
        "about": message.about,
        "run": message.run,
        "url": str(httpx.URL(message.url).copy_with(query=None)),  # where people put secrets
        "key": message.key,
        "attempts": message.attempts,
        "written": _moment(message.written),
        "due": _moment(message.due),
        "problem": message.problem,
        "body": json.loads(message.body),
    }


def _described(message: Message, now: float) -> str:
    """Return a message in a few short lines: what it is, then what became of it."""
    import httpx

    about = Path(message.about).name or message.about
    done = [f"written {_moment(message.written)}", f"tried {_times(message.attempts)}"]
    if message.state == "waiting":
        wait_s = message.due - now
        done.append("due now" if wait_s <= 0 else f"next try in {wait_s / 60:.0f} min")
    lines = [f"{message.number}  {message.state}: {message.kind} of {about}, to {httpx.URL(message.url).host}", ", ".join(done)]
    return "\n    ".join(lines + ([message.problem] if message.problem else []))


def _messages(number: int) -> str:
    return "1 message" if number == 1 else f"{number} messages"


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
