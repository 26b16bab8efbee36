"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect as introspection
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from tiltflow.cli.application import usage_errors
from tiltflow.recipe.engine_rules import EngineOption, all_engines, engine_choices
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
