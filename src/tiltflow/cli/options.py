"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect as introspection
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from tiltflow.cli.application import usage_errors
from tiltflow.interchange.targets import target_names
from tiltflow.recipe.engine_rules import OFF, EngineOption, all_engines, engine_choices, engine_names
from tiltflow.recipe.parameters import PARAMETERS, BrtParameters, Parameter

IMOD = "IMOD's parameters"
WHERE = "Where"
HOW = "How"

Template = Annotated[
    str,
    typer.Option("--template", metavar="NAME|PATH", help="plastic_brt, cryo_brt or a file of directives.", rich_help_panel=HOW),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="DIRECTIVE=VALUE", help="Set any directive; may be repeated.", rich_help_panel=HOW),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="|".join(engine_choices()),
        help="Engine that aligns and reconstructs; auto, the default, takes the preferred engine of those that are available here, "
        "best the better alignment of two.",
        rich_help_panel=HOW,
    ),
]

Alignment = Annotated[
    Path | None,
    typer.Option(
        "--alignment",
        metavar="FILE|FOLDER",
        help="Alignment that another program made, instead of one of our own: .xf with .tlt (IMOD), .aln (AreTomo), .star (RELION 5), "
        ".xml (Warp), or a folder in which each series finds its own by its base name.",
        rich_help_panel=HOW,
    ),
]
InputFolder = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT_DIR",
        help="Folder of tilt series: every .mrc .st .MRC .ST in it, and other formats (.tif) with an .mdoc.",
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results: one folder a series.", rich_help_panel=WHERE)]
File = Annotated[str | None, typer.Option("--file", help="Only this one file of the folder.", rich_help_panel=WHERE)]
FallbackEngine = Annotated[
    str | None,
    typer.Option(
        "--fallback-engine",
        metavar="|".join((*engine_names(), OFF)),
        help="Engine that does the work of one that failed or aligned poorly.",
        rich_help_panel=HOW,
    ),
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Series at once.", rich_help_panel=HOW)]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="Threads for each series; if not given, all cores are divided among the series.",
        rich_help_panel=HOW,
    ),
]
Redo = Annotated[bool, typer.Option("--redo", help="Process series again that are already done.", rich_help_panel=HOW)]
Workdir = Annotated[Path | None, typer.Option("--workdir", help="Where scratch folders are made.", rich_help_panel=WHERE)]
PerSeries = Annotated[
    Path | None,
    typer.Option(
        "--per-series",
        metavar="FILE",
        help="Table with settings of single series, CSV or TOML; if not given, series.csv or series.toml of the folder.",
        rich_help_panel=HOW,
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show every line of the log.", rich_help_panel=HOW)]
Export = Annotated[
    list[str] | None,
    typer.Option(
        "--export",
        metavar="|".join(target_names()),
        help="Write each series for this program too, into export/NAME beside its products; may be repeated.",
        rich_help_panel=WHERE,
    ),
]
CallbackUrl = Annotated[
    str | None,
    typer.Option(
        "--callback-url",
        help="Address of the portal's API for the callback (token: TILTFLOW_TOKEN or --token-file).",
        rich_help_panel=WHERE,
    ),
]
TokenFile = Annotated[Path | None, typer.Option("--token-file", help="File that holds the API's token.", rich_help_panel=WHERE)]


def takes_parameters(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each of the nine parameters to a command, which receives them as `parameters`; those that need IMOD last.

    A command that takes `engine_options` has those that engines put on the command line.
    """
    of_engines = [option for engine in all_engines() for option in engine.options if option.on_command_line]
    ordered = sorted(PARAMETERS.values(), key=lambda parameter: parameter.imod_only)

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        with usage_errors():
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
        annotation=Annotated[kind, typer.Option(declared, help=parameter.help, rich_help_panel=IMOD)],
    )


def _option_of_engine(option: EngineOption) -> introspection.Parameter:
    """Return the typer option of a truth value that an engine reads."""
    return introspection.Parameter(
        option.name,
        introspection.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option(option.option, help=option.description, rich_help_panel=WHERE)],
    )
