"""Which commands there are: what the help of them all says of each, and the module that is imported when one is called."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group


class Listed(NamedTuple):
    """A command in the help of them all: the module of this package that adds it, and the first line of its own help."""

    module: str
    summary: str


COMMANDS = {
    "run": Listed("run_command", "Align, reconstruct and make the products of every tilt series in a folder."),
    "watch": Listed(
        "watch_command",
        "Watch folders while a microscope fills them, and process every tilt series when it is whole; the same command continues.",
    ),
    "align": Listed(
        "part_commands", "Align every tilt series in a folder, without reconstructing; tiltflow run goes on from there."
    ),
    "reconstruct": Listed(
        "part_commands",
        "Reconstruct every tilt series in a folder, from a given alignment or from one that is made or there already; no products.",
    ),
    "products": Listed(
        "part_commands", "Make movies, pictures, pyramid, page and callback of aligned stacks and volumes that any program made."
    ),
    "import": Listed(
        "import_command",
        "Write the alignment of another program as .xf, .tlt and .xtilt, measured by the images, without reconstructing.",
    ),
    "export": Listed(
        "export_command", "Write the alignment of finished series for other programs, from their records: DIR/B/export/NAME."
    ),
    "inspect": Listed("look_commands", "Show the tilt angles, pixel size and tilt axis of a series, and where each was read."),
    "directives": Listed(
        "look_commands",
        "Show for each directive whether it is used, ignored, refused or unknown, and why, without running anything.",
    ),
    "report": Listed("look_commands", "Make the pages and metrics.csv again from the records, without the data."),
    "verify": Listed(
        "verify_command",
        "Read every product, volume and file of the results, and compare it with the size and the checksum in its record.",
    ),
    "check-site": Listed(
        "check_site_command",
        "Look whether this machine is ready: folders, certificates, token, portal, Prefect, Slurm, and a simulated series by each "
        "engine.",
    ),
    "reconcile": Listed(
        "outbox_commands",
        "Find runs whose process died: close their records, remove what they left, and tell the portal what they finished.",
    ),
    "metrics": Listed(
        "metrics_command",
        "Print figures for Prometheus: series by verdict, failures and seconds by stage, and what the portal was not told.",
    ),
    "demo": Listed(
        "demo_command", "Simulate a plastic section with gold beads, or frozen cells, process it, and list the products."
    ),
    "batchruntomo": Listed(
        "stand_in_command",
        "Take the place of IMOD's batchruntomo: the same options (-help lists them), directive files, output files and exit status.",
    ),
    "outbox": Listed("outbox_commands", "What the portal is to be told: kept until it was told."),
}
"""The commands by name, in the order of the help."""

commands = typer.Typer()
"""What the modules add their commands to."""


def find_command(name: str) -> Any:
    """Import a command, and return it as it is called."""
    import_module(f"tiltflow.cli.{COMMANDS[name].module}")
    return get_group(commands).commands[name]


class ListedCommands(TyperGroup):
    """The group of all commands: its help reads :data:`COMMANDS`, and only the command that is called is imported."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=listed.summary) for name, listed in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Return the name of the command that the arguments call, the command, and the arguments that are left for it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, find_command(name) if name in COMMANDS else command, rest
