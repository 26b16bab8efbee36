"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect as introspection
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
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
Verify = Annotated[
    bool,
    typer.Option(
        "--verify", help="Read what is done already, and make again what does not hold what was written.", rich_help_panel=HOW
    ),
]
NoWait = Annotated[
    bool,
    typer.Option(
        "--no-wait",
        help="Where another run works on one of the series, end with status 2 instead of waiting for it.",
        rich_help_panel=HOW,
    ),
]
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
LogJson = Annotated[
    bool, typer.Option("--log-json", help="Write the log as JSON, an object a line, for a collector of logs.", rich_help_panel=HOW)
]
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
Like = Annotated[
    Path | None,
    typer.Option(
        "--like",
        metavar="run.json",
        help="Template, parameters, directives, engine and given alignment of an earlier run, from its record.",
        rich_help_panel=HOW,
    ),
]
KeepWorkdir = Annotated[bool, typer.Option("--keep-workdir", help="Keep the scratch folders.", rich_help_panel=WHERE)]
TokenFile = Annotated[Path | None, typer.Option("--token-file", help="File that holds the API's token.", rich_help_panel=WHERE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkOptions:
    """What every command asks that works on tilt series."""

    output: Output
    parameters: BrtParameters
    template: Template = "plastic_brt"
    overrides: Overrides = None
    engine: Engine = None
    jobs: Jobs = 1
    threads: Threads = None
    workdir: Workdir = None
    per_series: PerSeries = None
    verbose: Verbose = False

    @property
    def scratch(self) -> Path | None:
        """Where scratch folders are made, as an absolute path; None for the setting."""
        return self.workdir.resolve() if self.workdir else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderOptions(WorkOptions):
    """What every command asks that works on a folder of tilt series."""

    input_dir: InputFolder
    file: File = None
    redo: Redo = False
    log_json: LogJson = False


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """Spell a command's parameters out as options, of which it receives what they make.

    A parameter of the type :class:`tiltflow.recipe.BrtParameters` stands for the nine; one of another dataclass, as
    :class:`FolderOptions`, for its fields; and one called `engine_options` for those that engines put on the command line.
    """
    hints = get_type_hints(command, include_extras=True)
    ours = introspection.signature(command).parameters

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        with usage_errors():
            received = {name: _taken_from(given, name, hints[name]) for name in ours}
        command(**received)

    spelt_out = [option for each in ours.values() for option in _spelt_out(each.replace(annotation=hints[each.name]))]
    read_by_typer: Any = with_options
    read_by_typer.__signature__ = introspection.Signature(spelt_out)
    return with_options


def _spelt_out(declared: introspection.Parameter) -> Iterator[introspection.Parameter]:
    """Yield the options that a parameter of a command stands for."""
    if declared.annotation is BrtParameters:
        yield from map(_option_of, PARAMETERS.values())
    elif is_dataclass(declared.annotation):
        hints = get_type_hints(declared.annotation, include_extras=True)
        for field in fields(declared.annotation):
            default = introspection.Parameter.empty if field.default is MISSING else field.default
            yield from _spelt_out(
                introspection.Parameter(
                    field.name, introspection.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
                )
            )
    elif declared.name == "engine_options":
        yield from map(_option_of_engine, _options_of_engines())
    else:
        yield declared


def _taken_from(given: dict[str, Any], name: str, kind: Any) -> Any:
    """Return what a command receives as the parameter `name`, of the options given."""
    if kind is BrtParameters:
        return BrtParameters(**{each: given[each] for each in PARAMETERS})
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{each.name: _taken_from(given, each.name, hints[each.name]) for each in fields(kind)})
    if name == "engine_options":
        # Those that the command was declared with: an engine may have been installed since.
        return {option.name: given[option.name] or None for option in _options_of_engines() if option.name in given}
    return given[name]


def _options_of_engines() -> list[EngineOption]:
    return [option for engine in all_engines() for option in engine.options if option.on_command_line]


def _option_of(parameter: Parameter) -> introspection.Parameter:
    """Return the typer option of one of the nine parameters."""
    declared = parameter.option if not parameter.switch else f"{parameter.option}/--no-{parameter.option.removeprefix('--')}"
    kind: Any = bool if parameter.switch else int
    if parameter.default is None:
        kind, default = int | None, None
    else:
        default = kind(parameter.default)
    return introspection.Parameter(
        parameter.name,
        introspection.Parameter.KEYWORD_ONLY,
        default=default,
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
