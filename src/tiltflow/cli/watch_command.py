"""The command that watches folders and processes what arrives."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tiltflow.cli.application import (
    EXIT_STATUSES,
    NONE_SUCCEEDED,
    SOME_FAILED,
    begin_work,
    folder_of,
    stoppable,
    usage_errors,
)
from tiltflow.cli.command_list import commands
from tiltflow.cli.options import (
    WHERE,
    Export,
    FallbackEngine,
    KeepWorkdir,
    Like,
    WorkOptions,
    takes_options,
)
from tiltflow.cli.recipes import recipes_asked

if TYPE_CHECKING:
    from tiltflow.watch import News

WHEN = "When"
_HOUR_S = 3600.0
_STYLES = {"plain": None, "good": "green", "warning": "yellow", "failure": "red"}

Folders = Annotated[
    list[Path],
    typer.Argument(metavar="FOLDER...", help="Folders that tilt series arrive in, as those that tiltflow run takes."),
]
Priority = Annotated[
    list[str] | None,
    typer.Option(
        "--priority",
        metavar="FOLDER=N",
        help="Series of this folder have their turn before those of a lower number; 0 if not given; may be repeated.",
        rich_help_panel=WHEN,
    ),
]
Order = Annotated[
    Literal["oldest", "newest"],
    typer.Option("--first", help="Which of the series of one priority has its turn first.", rich_help_panel=WHEN),
]
Still = Annotated[
    float,
    typer.Option(
        "--still",
        min=0.0,
        metavar="SECONDS",
        help="A series is taken when its files have not changed for so long: longer than the longest pause between two views.",
        rich_help_panel=WHEN,
    ),
]
Patience = Annotated[
    float,
    typer.Option(
        "--patience",
        min=0.0,
        metavar="HOURS",
        help="A series that is incomplete, and has not changed for so long, is told as such and not processed.",
        rich_help_panel=WHEN,
    ),
]
Every = Annotated[
    float,
    typer.Option("--every", min=0.1, metavar="SECONDS", help="Time between two looks at the folders.", rich_help_panel=WHEN),
]
Once = Annotated[bool, typer.Option("--once", help="Look once, process what is whole, and end; for cron.", rich_help_panel=WHEN)]
UntilIdle = Annotated[
    float | None,
    typer.Option(
        "--until-idle",
        min=0.0,
        metavar="HOURS",
        help="End when nothing new has come for so long; if not given, only a signal ends the session.",
        rich_help_panel=WHEN,
    ),
]
LedgerFile = Annotated[
    Path | None,
    typer.Option(
        "--ledger",
        metavar="FILE",
        help="File of the session's ledger; if not given, .tiltflow-watch.sqlite among the results.",
        rich_help_panel=WHERE,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions(WorkOptions):
    """What the command asks besides."""

    folders: Folders
    priority: Priority = None
    first: Order = "oldest"
    still: Still = 60.0
    patience: Patience = 24.0
    every: Every = 15.0
    once: Once = False
    until_idle: UntilIdle = None
    ledger: LedgerFile = None


@commands.command(epilog=EXIT_STATUSES)
@takes_options
def watch(
    context: typer.Context,
    *,
    asked: WatchOptions,
    fallback_engine: FallbackEngine = None,
    export: Export = None,
    keep_workdir: KeepWorkdir = False,
    like: Like = None,
    engine_options: dict[str, bool | None],
) -> None:
    """Watch folders while a microscope fills them, and process every tilt series when it is whole; the same command continues."""
    begin_work(verbose=asked.verbose, of_series=False)
    from tiltflow import console
    from tiltflow.settings import load_settings, site_from
    from tiltflow.watch import Plan, Rules, assign
    from tiltflow.watch import watch as watch_folders

    with usage_errors():
        settings = load_settings(
            scratch=asked.scratch,
            keep_workdir=keep_workdir or None,
            threads=asked.threads,
            engine=asked.engine,
            fallback_engine=fallback_engine,
            export=export or None,
            **engine_options,
        )
        output = asked.output.absolute()
        plan = Plan(
            folders=assign([folder_of(folder) for folder in asked.folders], output, asked.priority or ()),
            output=output,
            recipes=recipes_asked(context, asked, settings, like),
            site=site_from(settings, asked.jobs),
            table=asked.per_series,
            jobs=asked.jobs,
            rules=Rules(still_s=asked.still, patience_s=asked.patience * _HOUR_S),
            every_s=asked.every,
            newest_first=asked.first == "newest",
            once=asked.once,
            until_idle_s=None if asked.until_idle is None else asked.until_idle * _HOUR_S,
            ledger=asked.ledger,
        )
    with usage_errors(), stoppable():
        outcome = watch_folders(plan, _show)
    for page in outcome.pages:
        console.show_places(page.parent, page)
    if outcome.failed:
        raise typer.Exit(SOME_FAILED if outcome.done else NONE_SUCCEEDED)


def _show(news: News) -> None:
    """Print a line of news with the time."""
    from tiltflow import console

    at = datetime.fromtimestamp(news.when, UTC).astimezone()
    console.err.print(f"{at:%Y-%m-%d %H:%M:%S}  {news.about}: {news.words}", style=_STYLES[news.weight], markup=False)
