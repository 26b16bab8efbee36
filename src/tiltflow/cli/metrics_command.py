"""The command that gives a site's monitoring its figures."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer

from tiltflow.cli.application import folder_of, stoppable, usage_errors
from tiltflow.cli.command_list import commands


@commands.command()
def metrics(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR]...", help="Results of `tiltflow run`, at any depth.")
    ] = None,
    textfile: Annotated[
        Path | None, typer.Option("--textfile", metavar="FILE.prom", help="Write them for the textfile collector of node_exporter.")
    ] = None,
    port: Annotated[int | None, typer.Option("--serve", metavar="PORT", min=1, max=65535, help="Serve them at /metrics.")] = None,
    address: Annotated[str, typer.Option("--address", help="Where to serve them: an address of this machine.")] = "127.0.0.1",
) -> None:
    """Print figures for Prometheus: series by verdict, failures and seconds by stage, and what the portal was not told."""
    from tiltflow.atomic_write import write_bytes
    from tiltflow.delivery.outbox import open_outbox
    from tiltflow.errors import SettingsError
    from tiltflow.monitoring import registry_of
    from tiltflow.settings import load_settings

    with usage_errors():
        settings = load_settings()
        outbox = open_outbox(settings.state_folders)
        registry = registry_of([folder_of(folder) for folder in folders or ()], outbox, settings.verdict)
        from prometheus_client import generate_latest, start_http_server

        if port is not None:
            try:
                start_http_server(port, address, registry)
            except OSError as error:
                raise SettingsError(
                    f"{address}:{port} cannot be served ({error.strerror}); choose another port or address"
                ) from error
            typer.echo(f"serving http://{address}:{port}/metrics", err=True)
            with stoppable():
                _until_asked_to_end()
        elif textfile is not None:
            write_bytes(textfile, generate_latest(registry))
        else:
            typer.echo(generate_latest(registry).decode(), nl=False)


def _until_asked_to_end() -> None:
    from tiltflow import stopping

    while threading.main_thread().is_alive():
        stopping.pause(3600.0)
