"""The callback of a command: kept beside the results, and sent where a portal is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tiltflow import console
from tiltflow.cli.application import NOT_TOLD, SOME_FAILED, status_of
from tiltflow.delivery import callback
from tiltflow.delivery.layout import Layout
from tiltflow.delivery.portal import Portal
from tiltflow.errors import TiltflowError
from tiltflow.report import evidence_metadata, record_of
from tiltflow.settings import Settings, load_certificates, load_token
from tiltflow.work import SeriesResult


def portal_of(settings: Settings, url: str | None, token_file: Path | None) -> Portal | None:
    """Return the portal at an address; None where none is given.

    Raises
    ------
    SettingsError
        If its address, token or certificates cannot be used.
    """
    if not url:
        return None
    return Portal(url, load_token(settings, token_file), settings.callback_patience_s, load_certificates())


def tell(results: Sequence[SeriesResult], layout: Layout, output: Path, portal: Portal | None, settings: Settings) -> int:
    """Keep the callback in the folder of the results, send it, and return the exit status.

    Parameters
    ----------
    results
        Of all series.
    layout
        Names the files in the portal.
    output
        Folder of the results.
    portal
        Where to send it; None to send nothing.
    settings
        Say whether verdict and figures go along, and which types the volumes have.
    """
    kept_evidence = {one.source: evidence_metadata(record_of(one)) for one in results} if settings.evidence_in_callback else {}
    body = callback.build_callback(results, layout, kept_evidence, swap_volume_types=settings.swap_volume_types)
    status = status_of(tuple(results))
    kept, written = output / callback.CALLBACK_NAME, True
    try:
        callback.write_callback(body, kept)
    except TiltflowError as error:
        written = False
        console.err.print(f"error: {kept.name} was not written: {error}", style="red", markup=False)
        status = status or SOME_FAILED
    if portal is not None:
        try:
            portal.tell(body)
        except TiltflowError as error:
            remedy = f"The message is kept in {kept}" if written else "Run the same command again"
            console.err.print(f"error: the portal did not accept the callback: {error}\n{remedy}", style="red", markup=False)
            status = status or NOT_TOLD
    return status
