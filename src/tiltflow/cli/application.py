"""The application that every command belongs to, its exit statuses, and what becomes of errors and signals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiltflow import stopping
from tiltflow.cli.command_list import ListedCommands
from tiltflow.cli.streams import forgive_whatever
from tiltflow.errors import TiltflowError
from tiltflow.version import __version__, build

if TYPE_CHECKING:
    from tiltflow.work import SeriesResult

USAGE_ERROR = 2
SOME_FAILED = 1
NONE_SUCCEEDED = 3
NOT_TOLD = 4
INTERRUPTED = 130
EXIT_STATUSES = (
    "Exit status: 0 every series has its result, whatever its verdict; 1 some series failed; 2 the request was wrong, and nothing was "
    "done; 3 no series succeeded; 4 all succeeded, but the portal was not told; 130 the work was asked to end."
)

app = typer.Typer(
    name="tiltflow",
    cls=ListedCommands,
    help="Tilt series to tomograms, movies, pictures and pyramids: one command for a folder, evidence with every result.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        commit = build()
        typer.echo(f"tiltflow {__version__}" + (f" ({commit})" if commit else ""))
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def folder_of(path: Path) -> Path:
    """Return a path that is a folder.

    Raises
    ------
    LocationError
        If it is none.
    """
    from tiltflow.errors import LocationError

    if not path.is_dir():
        hint = f"; for one file give its folder and --file {path.name}" if path.is_file() else ""
        raise LocationError(f"{path} is not a folder{hint}")
    return path


def status_of(results: tuple[SeriesResult, ...]) -> int:
    """Return the exit status for the results of a run."""
    failed = sum(not result.ok for result in results)
    if not failed:
        return 0
    return NONE_SUCCEEDED if failed == len(results) else SOME_FAILED


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn an error in the request itself into a message and exit status 2, and Ctrl-C into one and 130."""
    from tiltflow import console

    try:
        yield
    except TiltflowError as error:
        console.err.print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(USAGE_ERROR) from error
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None


def begin_work(*, verbose: bool, log_json: bool = False, of_series: bool = True) -> None:
    """Begin a command whose results are on disk: its log is shown, of single series too or not, and nothing unprintable ends it.

    What works is imported after it.
    """
    from tiltflow import console
    from tiltflow.unused_parts import leave_out_unused_parts

    leave_out_unused_parts()
    forgive_whatever()
    console.set_up_logging(verbose=verbose, as_json=log_json, of_series=of_series)


@contextmanager
def stoppable() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP end the work: the running series record that they were interrupted, scratch is removed."""
    with stopping.stoppable():
        try:
            yield
        except KeyboardInterrupt:
            typer.echo("interrupted: run the same command again to continue; finished series are kept", err=True)
            raise typer.Exit(INTERRUPTED) from None
