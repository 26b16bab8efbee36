"""The stand-in for batchruntomo as a command."""

from __future__ import annotations

import typer

from tiltflow.cli.command_list import commands


@commands.command(
    add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def batchruntomo(context: typer.Context) -> None:
    """Take the place of IMOD's batchruntomo: the same options (-help lists them), directive files, output files and exit status."""
    from tiltflow.batchruntomo import main as batchruntomo_main

    raise typer.Exit(batchruntomo_main(context.args))
