"""The callback of a command: kept beside the results, and sent where a portal is named."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltflow import console
from tiltflow.cli.application import NOT_TOLD, SOME_FAILED, status_of
from tiltflow.delivery.body import CALLBACK_NAME, build_callback, write_callback
from tiltflow.delivery.layout import Layout
from tiltflow.errors import CallbackDelayError, TiltflowError
from tiltflow.pipeline import OnProgress, RunPlan, SeriesProgress, dead_run_like
from tiltflow.recipe import SeriesRecipes
from tiltflow.report import evidence_metadata, record_of
from tiltflow.settings import Settings, load_certificates, load_token
from tiltflow.work import SeriesResult

if TYPE_CHECKING:
    from tiltflow.delivery.portal import Portal


def portal_of(settings: Settings, url: str | None, token_file: Path | None, plan: dict[str, Any] | None = None) -> Portal | None:
    """Return the conversation of a run with the portal at an address; None without one.

    A run of the same plan whose process died is taken up again: what it told is not told once more.

    Raises
    ------
    SettingsError
        If the address, the token or the certificates cannot be used.
    DeliveryError
        If the outbox cannot be opened.
    """
    if url is None:
        return None
    from tiltflow.delivery.outbox import RunEntry, open_outbox
    from tiltflow.delivery.portal import Address, Portal, new_run

    if token_file is not None:
        address = Address(url=url, token=load_token(settings, token_file))
    else:
        address = Address(url=url, site_token=lambda: load_token(settings))
    outbox = open_outbox(settings.state_folders, load_certificates())
    wanted = RunEntry(run="", about="", url=url, token=address.token, site_token=address.site_goes_along, plan=plan or {})
    return Portal(
        address=address,
        outbox=outbox,
        patience_s=settings.callback_patience_s,
        mode=settings.callback_mode,
        run=dead_run_like(outbox, wanted) or new_run(),
    )


def plan_of(layout: Layout, output: Path, recipes: SeriesRecipes, sources: Sequence[Path], *, evidence: bool) -> dict[str, Any]:
    """Return what another process needs to end this run in order, or to take it up again."""
    return RunPlan(
        layout=replace(layout, inputs=layout.inputs.resolve(), assets=layout.assets.resolve(), folder=layout.folder.resolve()),
        digests={source.parent.resolve() / source.name: recipes.of(source).digest for source in sources},
        output=output.resolve(),
        evidence=evidence,
        **_how_called(),
    ).as_json()


def plan_of_given(output: Path, names: Iterable[str]) -> dict[str, Any]:
    """Return what another process needs to take up again the work on volumes that are given."""
    return {"output": str(output.resolve()), "series": dict.fromkeys(names, ""), **_how_called()}


def _how_called() -> dict[str, Any]:
    return {"command": (sys.executable, "-m", "tiltflow", *sys.argv[1:]), "folder": str(Path.cwd())}


@contextmanager
def following(
    portal: Portal | None, layout: Layout, on_progress: OnProgress, *, evidence: bool, plan: dict[str, Any] | None = None
) -> Iterator[OnProgress]:
    """Let the portal follow the work of a `with` block, and give the function that receives its progress."""
    if portal is None:
        yield on_progress
        return

    def told(progress: SeriesProgress) -> None:
        on_progress(progress)
        if progress.result is None or portal.mode != "series":
            return
        try:
            body = build_callback([progress.result], layout, _evidence([progress.result], wanted=evidence))
        except TiltflowError as error:  # no message is worth the other series
            console.err.print(f"error: {progress.name} is not told: {error}", style="red", markup=False)
        else:
            portal.put(body, progress.result.source.name)
            courier.wake()

    with portal.following(str(layout.folder), plan) as courier:
        yield told


def tell(results: Sequence[SeriesResult], layout: Layout, output: Path, portal: Portal | None, *, evidence: bool) -> int:
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
    evidence
        Whether verdict and figures go along.
    """
    status = status_of(tuple(results))
    try:
        body = build_callback(results, layout, _evidence(results, wanted=evidence))
    except TiltflowError as error:
        console.err.print(f"error: {CALLBACK_NAME} was not written, and nothing told: {error}", style="red", markup=False)
        return status or SOME_FAILED
    kept, written = output / CALLBACK_NAME, True
    try:
        write_callback(body, kept)
    except TiltflowError as error:
        written = False
        console.err.print(f"error: {kept.name} was not written: {error}", style="red", markup=False)
        status = status or SOME_FAILED
    if portal is not None:
        try:
            portal.tell(body, str(layout.folder))
        except TiltflowError as error:
            place = f"The message is kept in {kept}" if written else "Run the same command again"
            waits = isinstance(error, CallbackDelayError) and portal.keeps
            remedy = "The message waits in the outbox; `tiltflow outbox send` sends it when the portal is there" if waits else place
            console.err.print(f"error: the portal did not accept the callback: {error}\n{remedy}", style="red", markup=False)
            status = status or NOT_TOLD
    return status


def _evidence(results: Sequence[SeriesResult], *, wanted: bool) -> dict[Path, dict[str, Any]]:
    return {one.source: evidence_metadata(record_of(one)) for one in results} if wanted else {}
