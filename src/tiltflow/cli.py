"""The `tiltflow` command.

Exit status: 0 all good, 1 some series failed (or the portal did not accept the callback), 2 the request itself was wrong, 3 no series
succeeded.  Heavy modules are imported by the command that needs them, so that `tiltflow --help` is fast.
"""

from __future__ import annotations

import functools
import inspect as introspection
import itertools
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from tiltflow.errors import TiltflowError
from tiltflow.recipe.engine_rules import AUTO, OFF, EngineOption, all_engines, engine_choices, engine_names
from tiltflow.recipe.parameters import PARAMETERS, BrtParameters, Parameter
from tiltflow.version import __version__, build

if TYPE_CHECKING:
    from tiltflow.model import SeriesResult

USAGE_ERROR = 2
SOME_FAILED = 1
NONE_SUCCEEDED = 3
INTERRUPTED = 130

app = typer.Typer(
    name="tiltflow",
    help="Tilt series to tomograms, movies, pictures and pyramids: one command for a folder, evidence with every result.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


_IMOD = "IMOD's parameters"
_WHERE = "Where"
_HOW = "How"

Template = Annotated[
    str,
    typer.Option("--template", metavar="NAME|PATH", help="plastic_brt, cryo_brt or a file of directives.", rich_help_panel=_HOW),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="DIRECTIVE=VALUE", help="Set any directive; may be repeated.", rich_help_panel=_HOW),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="|".join(engine_choices()),
        help="Engine that aligns and reconstructs; auto, the default, takes the preferred engine of those that are available here, "
        "best the better alignment of two.",
        rich_help_panel=_HOW,
    ),
]


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


def _takes_parameters(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each of the nine parameters to a command, which receives them as `parameters`; those that need IMOD last.

    A command that takes `engine_options` has those that engines put on the command line.
    """
    of_engines = [option for engine in all_engines() for option in engine.options if option.on_command_line]
    ordered = sorted(PARAMETERS.values(), key=lambda parameter: parameter.imod_only)

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        with _usage_errors():
            parameters = BrtParameters(**{parameter.name: given.pop(parameter.name) for parameter in ordered})
        if "engine_options" in hints:
            given["engine_options"] = {option.name: given.pop(option.name) or None for option in of_engines}
        command(parameters=parameters, **given)

    hints = get_type_hints(command, include_extras=True)
    taken: list[introspection.Parameter] = []
    for name, each in introspection.signature(command).parameters.items():
        if name == "parameters":
            taken += map(_option_of, ordered)
        elif name == "engine_options":
            taken += map(_option_of_engine, of_engines)
        else:
            taken.append(each.replace(annotation=hints[name]))
    with_options.__signature__ = introspection.Signature(taken)  # type: ignore[attr-defined]  # what typer reads
    return with_options


def _option_of(parameter: Parameter) -> introspection.Parameter:
    """Return the typer option of one of the nine parameters."""
    declared = parameter.option if not parameter.switch else f"{parameter.option}/--no-{parameter.option.removeprefix('--')}"
    kind: type[int] = bool if parameter.switch else int
    return introspection.Parameter(
        parameter.name,
        introspection.Parameter.KEYWORD_ONLY,
        default=kind(parameter.default),
        annotation=Annotated[kind, typer.Option(declared, help=parameter.help, rich_help_panel=_IMOD)],
    )


def _option_of_engine(option: EngineOption) -> introspection.Parameter:
    """Return the typer option of a truth value that an engine reads."""
    return introspection.Parameter(
        option.name,
        introspection.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option(option.option, help=option.description, rich_help_panel=_WHERE)],
    )


@app.command()
@_takes_parameters
def run(
    input_dir: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT_DIR",
            help="Folder of tilt series: every .mrc .st .MRC .ST in it, and other formats (.tif) with an .mdoc.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the results: one folder a series.", rich_help_panel=_WHERE)
    ],
    file: Annotated[str | None, typer.Option("--file", help="Only this one file of the folder.", rich_help_panel=_WHERE)] = None,
    *,
    parameters: BrtParameters,
    template: Template = "plastic_brt",
    overrides: Overrides = None,
    engine: Engine = None,
    fallback_engine: Annotated[
        str | None,
        typer.Option(
            "--fallback-engine",
            metavar="|".join((*engine_names(), OFF)),
            help="Engine that does the work of one that failed or aligned poorly.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Series at once.", rich_help_panel=_HOW)] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            min=1,
            help="Threads for each series; if not given, all cores are divided among the series.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    redo: Annotated[bool, typer.Option("--redo", help="Process series again that are already done.", rich_help_panel=_HOW)] = False,
    callback_url: Annotated[
        str | None,
        typer.Option(
            "--callback-url",
            help="Address of the portal's API for the callback (token: TILTFLOW_TOKEN or --token-file).",
            rich_help_panel=_WHERE,
        ),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="File that holds the API's token.", rich_help_panel=_WHERE)
    ] = None,
    workdir: Annotated[
        Path | None, typer.Option("--workdir", help="Where scratch folders are made.", rich_help_panel=_WHERE)
    ] = None,
    keep_workdir: Annotated[bool, typer.Option("--keep-workdir", help="Keep the scratch folders.", rich_help_panel=_WHERE)] = False,
    engine_options: dict[str, bool | None],
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every line of the log.", rich_help_panel=_HOW)] = False,
) -> None:
    """Align, reconstruct and make the products of every tilt series in a folder."""
    from tiltflow import console
    from tiltflow.delivery import callback, layout
    from tiltflow.delivery.portal import Portal
    from tiltflow.engines.registry import choose_engine
    from tiltflow.pipeline import forecast
    from tiltflow.pipeline import run as run_series
    from tiltflow.recipe import make_recipe
    from tiltflow.report import INDEX_NAME, evidence_metadata, record_of
    from tiltflow.settings import load_settings, load_token, site_from

    console.set_up_logging(verbose=verbose)
    with _usage_errors():
        settings = load_settings(
            scratch=workdir.resolve() if workdir else None,
            keep_workdir=keep_workdir or None,
            threads=threads,
            engine=engine,
            fallback_engine=fallback_engine,
            **engine_options,
        )
        recipe = make_recipe(
            parameters,
            template=template,
            overrides=overrides or [],
            engine=settings.engine,
            fallback_engine=settings.fallback_engine,
            fallback=settings.fallback,
        )
        recipe.for_engine(choose_engine(recipe.engine)[0].name)  # so that a refusal comes before any work
        sources = layout.find_series(_folder(input_dir), file, by_mdoc=True)
        for remark in layout.look_alikes(sources):
            console.err.print(f"! {remark.message}", style="yellow", markup=False)
        portal = Portal(callback_url, load_token(token_file), settings.callback_patience_s) if callback_url else None
        site = site_from(settings, jobs)
        if expected := forecast(sources, recipe, site, output, jobs=jobs, redo=redo):
            console.err.print(expected.line, markup=False, soft_wrap=True)
            for shortage in expected.shortages:
                console.err.print(f"! {shortage}", style="yellow", markup=False, soft_wrap=True)
    with _stoppable(), portal.following() if portal else nullcontext(), console.progress_display(len(sources)) as on_progress:
        results = run_series(sources, recipe, site, output, jobs=jobs, redo=redo, on_progress=on_progress).results
    evidence = {one.source: evidence_metadata(record_of(one)) for one in results} if settings.evidence_in_callback else {}
    body = callback.build_callback(results, layout.plain_layout(input_dir, output), evidence)
    console.show_closing_table(results)
    console.out.print(f"results: {output}, report: {output / INDEX_NAME}", markup=False)
    status = _status(results)
    kept = output / callback.CALLBACK_NAME
    try:
        callback.write_callback(body, kept)
    except TiltflowError as error:
        console.err.print(f"error: {kept.name} was not written: {error}", style="red", markup=False)
        status = status or SOME_FAILED
    if portal:
        try:
            portal.tell(body)
        except TiltflowError as error:
            remedy = f"The message is kept in {kept}" if kept.exists() else "run the same command again"
            console.err.print(f"error: the portal did not accept the callback: {error}\n{remedy}", style="red", markup=False)
            status = status or SOME_FAILED
    raise typer.Exit(status)


@app.command()
def inspect(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Tilt series to look at.")],
) -> None:
    """Show the tilt angles, pixel size and tilt axis of a series, and where each was read."""
    from tiltflow import console

    failed = 0
    for file in files:
        try:
            _inspect(file)
        except TiltflowError as error:
            failed += 1
            console.err.print(f"error: {error}", style="red", markup=False)
    if failed:
        raise typer.Exit(NONE_SUCCEEDED if failed == len(files) else SOME_FAILED)


@app.command()
@_takes_parameters
def directives(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file of directives, or plastic_brt or cryo_brt.")],
    *,
    parameters: BrtParameters,
    overrides: Overrides = None,
    engine: Engine = None,
) -> None:
    """Show for each directive whether it is used, ignored, refused or unknown, and why, without running anything."""
    from tiltflow import console
    from tiltflow.recipe import report_directives

    with _usage_errors():
        report = report_directives(parameters, file, overrides or [], engine or AUTO)
    console.show_rows(
        [(row.name, row.value, row.status, row.reason) for row in report.rows], ("directive", "value", "status", "why")
    )
    for problem in report.problems:
        console.out.print(f"! {problem.message} ({problem.where})", style="yellow", markup=False)
    for fault in report.faults:
        console.out.print(f"! {fault}", style="red", markup=False)
    if report.wrong:
        console.err.print(f"{len(report.wrong)} of {len(report.rows)} directives cannot be used", style="red")
    if report.wrong or report.faults:
        raise typer.Exit(SOME_FAILED)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Results of `tiltflow run`, or the folder of one series in them.")],
) -> None:
    """Make the pages and metrics.csv again from the records, without the data."""
    from tiltflow import console
    from tiltflow.report import rebuild_pages
    from tiltflow.settings import load_site

    console.set_up_logging(verbose=False)
    with _usage_errors():
        for path in rebuild_pages(_folder(folder), load_site().thresholds):
            console.out.print(str(path), markup=False)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the series and its results.")] = Path("tiltflow-demo"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the simulated specimen.")] = 1,
    size: Annotated[int, typer.Option("--size", min=128, help="Side of the images, pixels.")] = 512,
    views: Annotated[int, typer.Option("--views", min=5, help="Number of views.")] = 41,
) -> None:
    """Simulate a plastic section with gold beads, process it, and list the products."""
    from tiltflow import console
    from tiltflow.demo import run_demo

    console.set_up_logging(verbose=False)
    with _stoppable(), _usage_errors():
        status = run_demo(output, seed=seed, size=size, views=views)
    raise typer.Exit(status)


@app.command(
    add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def batchruntomo(context: typer.Context) -> None:
    """Take the place of IMOD's batchruntomo: the same options (-help lists them), directive files, output files and exit status."""
    from tiltflow.batchruntomo import main as batchruntomo_main

    raise typer.Exit(batchruntomo_main(context.args))


def _inspect(file: Path) -> None:
    from tiltflow import console, describe
    from tiltflow.formats.series import read_series

    series = read_series(file)
    console.out.print(f"{file}", style="bold", markup=False)
    rows = []
    for name, entry in describe.series(series).items():
        rows.append((name.replace("_", " "), _brief(entry.value, entry.unit), entry.source))
    console.show_rows(rows, ("quantity", "value", "read from"))
    for problem in series.problems:
        console.out.print(f"! {problem.message} ({problem.where})", style="yellow", markup=False)


def _brief(value: Any, unit: str) -> str:
    """Return a value as text; for a list its range and length."""
    if isinstance(value, list):
        text = f"{value[0]:g} to {value[-1]:g}, {len(value)} values" if value else "none"
        steps = {round(b - a, 2) for a, b in itertools.pairwise(value)}
        text += f", step {steps.pop():g}" if len(steps) == 1 else ""
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}".strip()


def _folder(path: Path) -> Path:
    from tiltflow.errors import LocationError

    if not path.is_dir():
        hint = f"; for one file give its folder and --file {path.name}" if path.is_file() else ""
        raise LocationError(f"{path} is not a folder{hint}")
    return path


def _status(results: tuple[SeriesResult, ...]) -> int:
    failed = sum(not result.ok for result in results)
    if not failed:
        return 0
    return NONE_SUCCEEDED if failed == len(results) else SOME_FAILED


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Turn an error in the request itself into a message and exit status 2."""
    from tiltflow import console

    try:
        yield
    except TiltflowError as error:
        console.err.print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(USAGE_ERROR) from error


@contextmanager
def _stoppable() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C: the running series record that they were interrupted, scratch is removed."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted: run the same command again to continue; finished series are kept", err=True)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> None:
    """Run the command line."""
    sys.exit(app())
