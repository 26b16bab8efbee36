"""The command that simulates a series and processes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiltflow.cli.application import begin_work, stoppable, usage_errors
from tiltflow.cli.command_list import commands


@commands.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the series and its results.")] = Path("tiltflow-demo"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the simulated specimen.")] = 1,
    size: Annotated[int, typer.Option("--size", min=128, help="Side of the images, pixels.")] = 512,
    views: Annotated[int, typer.Option("--views", min=5, help="Number of views.")] = 41,
    cryo: Annotated[bool, typer.Option("--cryo", help="Frozen cells in ice instead of a plastic section, by cryo_brt.")] = False,
) -> None:
    """Simulate a plastic section with gold beads, or frozen cells, process it, and list the products."""
    begin_work(verbose=False)
    from tiltflow.demo import run_demo

    with usage_errors(), stoppable():
        status = run_demo(output, seed=seed, size=size, views=views, cryo=cryo)
    raise typer.Exit(status)
