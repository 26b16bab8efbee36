"""The BRT flow, started by portals and operators under this name or through the door (:mod:`tiltflow_flows.door`).

The parameters are a contract: their names, order and defaults never change; the first nine have IMOD's names.  The order of events::

    running -> inputs found -> every series, on the runner that the site chose -> callback.json -> callback -> success or error

A series that fails is an `error` in the callback and does not affect the others; the run fails when none succeeded.  A repeated run
keeps results that are complete and were made by the same recipe from the same file.  Importing this module has no side effects.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import prefect.runtime
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tiltflow import stopping
from tiltflow.delivery.body import CALLBACK_NAME, build_callback
from tiltflow.delivery.layout import resolve_input
from tiltflow.delivery.outbox import open_outbox
from tiltflow.delivery.portal import Portal
from tiltflow.errors import TiltflowError
from tiltflow.pipeline import RunPlan, planner, prepare, recorded_run
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.report import INDEX_NAME, PAGE_NAME, evidence_metadata, record_of
from tiltflow.settings import load_certificates, load_settings
from tiltflow_flows.artifacts import publish_summary
from tiltflow_flows.conversation import Followed, followed
from tiltflow_flows.door import describe_door
from tiltflow_flows.hooks import tell_error, tell_running, tell_success
from tiltflow_flows.logs import show_on_the_page
from tiltflow_flows.outcomes import summary
from tiltflow_flows.runners import choose_runner
from tiltflow_flows.series_flow import Batch, process_batch
from tiltflow_flows.tasks import callback
from tiltflow_flows.templates import site_template
from tiltflow_flows.tokens import resolve_address


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
) -> State[dict[str, Any]]:
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
    State
        Completed, with the count of series and the reason of each that failed.  Its result, and that of a call, is the body of the
        callback.

    Raises
    ------
    TiltflowError
        If the inputs cannot be found, no series succeeded, or the portal did not accept the callback.
    """
    log = get_run_logger()
    show_on_the_page()
    stopping.withdraw()  # what an earlier flow of this process was asked has ended with it
    door = describe_door()
    log.log(logging.WARNING if door.leads_elsewhere else logging.INFO, door.message)
    settings = load_settings(keep_workdir=x_keep_workdir or None)
    url = None if x_no_api or not callback_url else callback_url
    address = resolve_address(token, url, settings) if url is not None else None
    outbox = open_outbox(settings.state_folders, load_certificates())
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
    runner = choose_runner(settings, len(sources), planner(sources, recipes, layout.output_of, redo=settings.keep_workdir))
    site = runner.site
    folder = layout.output_of(sources[0]) if x_file_name else layout.output
    run, about = str(prefect.runtime.flow_run.id), str(prefect.runtime.flow_run.name)
    portal = None
    if address is not None:
        portal = Portal(
            address=address, outbox=outbox, patience_s=settings.callback_patience_s, mode=settings.callback_mode, run=run
        )
    plan = RunPlan(
        layout=layout,
        digests={source: recipes.of(source).digest for source in sources},
        output=folder,
        evidence=settings.evidence_in_callback,
    )
    with followed(Followed(outbox, run, about, plan, settings, portal)) as tell_series:
        if x_file_name:
            results, page = process_batch(Batch(sources, recipes, site, layout, tell_series), runner), folder / PAGE_NAME
        else:
            page = folder / INDEX_NAME
            with recorded_run(sources, recipes, folder, site, runner.at_once) as recorder:
                results = process_batch(Batch(sources, recipes, site, layout, tell_series), runner)
                for result in results:
                    recorder.done(result)
        records = {result.source: record_of(result) for result in results}
        evidence = {source: evidence_metadata(record) for source, record in records.items()} if plan.evidence else {}
        body = build_callback(results, layout, evidence)
        if portal is not None:
            portal.put_all(body, about)
    publish_summary(list(records.values()), site.thresholds, page)
    untold = callback(body, folder / CALLBACK_NAME, portal.deliver if portal is not None else None)
    if not any(result.ok for result in results):
        raise TiltflowError(f"None of the {len(results)} series succeeded; {results[0].source.name}: {results[0].message}")
    said = summary(results)
    return Completed(message=f"{said}\nthe portal is not told yet: {untold}" if untold else said, data=body.model_dump(mode="json"))
