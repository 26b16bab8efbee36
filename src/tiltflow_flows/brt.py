"""The BRT flow, started by portals and operators under this name or through the door (:mod:`tiltflow_flows.door`).

The parameters are a contract: their names, order and defaults never change; the first nine have IMOD's names.  The order of events::

    running -> inputs found -> every series, on the runner that the site chose -> callback.json -> callback -> success or error

A series that fails is an `error` in the callback and does not affect the others; the run fails when none succeeded.  A repeated run
keeps results that are complete and were made by the same recipe from the same file.  Importing this module has no side effects.
"""

from __future__ import annotations

import logging
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.futures import PrefectFuture, as_completed

from tiltflow import stopping
from tiltflow.delivery.callback import CALLBACK_NAME, build_callback, check_token, check_url
from tiltflow.delivery.certificates import verification
from tiltflow.delivery.layout import Layout, resolve_input
from tiltflow.errors import TiltflowError
from tiltflow.pipeline import close_lost, prepare, recorded_run
from tiltflow.recipe import BrtParameters, SeriesRecipes, make_recipe
from tiltflow.report import INDEX_NAME, PAGE_NAME, evidence_metadata, record_of
from tiltflow.settings import load_certificates, load_settings
from tiltflow.work import SeriesResult, Site
from tiltflow_flows.artifacts import publish_summary
from tiltflow_flows.door import describe_door
from tiltflow_flows.hooks import tell_error, tell_running, tell_success
from tiltflow_flows.logs import show_on_the_page
from tiltflow_flows.runners import choose_runner, series_at_once, site_for
from tiltflow_flows.tasks import LOST, brt_series, callback, settle
from tiltflow_flows.templates import site_template
from tiltflow_flows.tokens import resolve_token


@flow(
    name="BRT",
    flow_run_name="BRT {file_share} {input_dir}",
    on_running=[tell_running],
    on_completion=[tell_success],
    on_failure=[tell_error],
    on_crashed=[tell_error],
    on_cancellation=[tell_error],
)
def brt_flow(
    montage: int,
    gold: int,
    focus: int,
    fiducialless: int,
    trackingMethod: int,
    TwoSurfaces: int,
    TargetNumberOfBeads: int,
    LocalAlignments: int,
    THICKNESS: int,
    file_share: str,
    input_dir: str,
    x_file_name: str | None = None,
    callback_url: str | None = None,
    token: str | None = None,
    x_no_api: bool = False,
    x_keep_workdir: bool = False,
    adoc_template: str = "plastic_brt",
) -> dict[str, Any]:
    """Align and reconstruct every tilt series of a folder, make its products, and report them to the portal.

    Parameters
    ----------
    montage, gold, focus, fiducialless, trackingMethod, TwoSurfaces, TargetNumberOfBeads, LocalAlignments, THICKNESS
        As batchruntomo's directives of these names.
    file_share, input_dir
        The inputs: the files of `<mount of file_share>/Projects/<input_dir>` that end in .mrc .st .MRC .ST.
    x_file_name
        Only this file.
    callback_url, token
        The portal's API, and the token for it or the name of the Prefect Secret block that holds it.
    x_no_api
        Make everything and log the callback, but send nothing to the portal.
    x_keep_workdir
        Keep the scratch folders.
    adoc_template
        The template of the directives: `plastic_brt`, `cryo_brt`, or the name of one in the site's `template_folders`.

    Returns
    -------
    dict
        The body of the callback.

    Raises
    ------
    TiltflowError
        If the inputs cannot be found, no series succeeded, or the portal did not accept the callback.
    """
    log = get_run_logger()
    show_on_the_page()
    door = describe_door()
    log.log(logging.WARNING if door.leads_elsewhere else logging.INFO, door.message)
    settings = load_settings(keep_workdir=x_keep_workdir or None)
    url = None if x_no_api or not callback_url else callback_url
    secret, certificates = None, load_certificates()
    if url is not None:
        check_url(url)
        verification(certificates)
        secret = resolve_token(token, url, settings)
        if secret is not None:
            check_token(secret)
    parameters = BrtParameters(
        montage=montage,
        gold=gold,
        focus=focus,
        fiducialless=fiducialless,
        tracking_method=trackingMethod,
        two_surfaces=TwoSurfaces,
        target_number_of_beads=TargetNumberOfBeads,
        local_alignments=LocalAlignments,
        thickness=THICKNESS,
    )
    recipe = make_recipe(parameters, site_template(adoc_template, settings), **settings.recipe_defaults)
    layout = resolve_input(settings.mounts, file_share, input_dir, swap_volume_types=settings.swap_volume_types)
    # Engines are those of the workers, which may be other machines.
    made = prepare(layout.folder, recipe, file=x_file_name, within=layout.share, by_mdoc=False, here=False)
    sources, recipes = made.sources, made.recipes
    layout.check_target(layout.output)
    for source in sources:
        layout.output_of(source)  # before the first write, and not when its turn comes
    layout.refuse_projects(settings.scratch or Path(tempfile.gettempdir()), "The scratch folder")
    log.info("%d tilt series in %s", len(sources), layout.folder)
    for remark in made.remarks:
        log.warning(remark.message)
    if made.table is not None:
        log.info("%s: settings of their own for %s", made.table.name, ", ".join(recipes.own) or "no series")
    process = brt_series_of_a_run.with_options(task_runner=choose_runner(settings, len(sources)))
    site, at_once = site_for(settings, len(sources)), series_at_once(settings, len(sources))
    if x_file_name:
        results, folder = process(sources, recipes, site, layout, at_once), layout.output_of(sources[0])
        page = folder / PAGE_NAME
    else:
        folder = layout.output
        page = folder / INDEX_NAME
        with recorded_run(sources, recipes, folder, site, at_once) as recorder:
            results = process(sources, recipes, site, layout, at_once)
            for result in results:
                recorder.done(result)
    records = {result.source: record_of(result) for result in results}
    publish_summary(list(records.values()), site.thresholds, page)
    evidence = {source: evidence_metadata(record) for source, record in records.items()} if settings.evidence_in_callback else {}
    body = build_callback(results, layout, evidence)
    callback(body, folder / CALLBACK_NAME, url, secret, settings.callback_patience_s, certificates)
    if not any(result.ok for result in results):
        raise TiltflowError(f"None of the {len(results)} series succeeded; {results[0].source.name}: {results[0].message}")
    return body.model_dump(mode="json")


@flow(name="BRT series", validate_parameters=False)
def brt_series_of_a_run(
    sources: Sequence[Path], recipes: SeriesRecipes, site: Site, layout: Layout, at_once: int
) -> list[SeriesResult]:
    """Process the series on the runner of this flow, which the caller chooses, and return their results in order.

    A series whose worker died is done once more when the others are done, and alone: it may have been short of memory that
    others used, or have waited for a worker that died with another series.
    """
    log = get_run_logger()

    def process(these: Sequence[Path], at_once: int) -> Iterator[SeriesResult]:
        waiting = deque(these)
        running: dict[PrefectFuture[Any], Path] = {}
        while waiting or running:
            # No more than there are workers: Dask counts series that wait behind one that kills its worker as killed with it.
            while waiting and len(running) < at_once:
                source = waiting.popleft()
                running[brt_series.submit(source, recipes.of(source), site, layout.output_of(source))] = source
            future = next(as_completed(list(running)))
            source = running.pop(future)
            result = settle(future, source, layout.output_of(source))
            log.log(logging.INFO if result.ok else logging.ERROR, "%s: %s", source.name, result.message or result.status)
            yield result

    # Prefect ends a flow by an exception in the main thread, which waits here; the threads of the series end by the flag.
    with stopping.stoppable(passing_on=True):
        results = {result.source: result for result in process(sources, at_once)}
        lost = [result.source for result in results.values() if result.stage == LOST]
        results |= {result.source: result for result in process(lost, 1)}
    for result in results.values():
        if result.stage == LOST:
            close_lost(result, site.thresholds)
    return [results[source] for source in sources]
