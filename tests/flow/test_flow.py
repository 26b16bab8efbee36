"""The BRT flow: the door, and what a portal sees of a run."""

from __future__ import annotations

import inspect
import json
import logging
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prefect", reason="needs the extra [prefect]")

from prefect import tags
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.sorting import FlowRunSort, LogSort, TaskRunSort
from prefect.logging.handlers import APILogHandler, APILogWorker
from tests.flow.call import NINE
from tests.montages import coordinates, write_pieces, write_simulated

from em_workflows.brt.flow import brt_flow
from tiltflow.errors import LocationError, TiltflowError
from tiltflow.products.catalogue import PRODUCTS, STEPS
from tiltflow.recipe import PARAMETERS
from tiltflow.record import read_record
from tiltflow.simulate.montage import simulate_montage
from tiltflow.simulate.parameters import SimulationParams
from tiltflow_flows.artifacts import ARTIFACT_KEY
from tiltflow_flows.logs import show_on_the_page
from tiltflow_flows.tasks import PRODUCT_TASKS

pytestmark = pytest.mark.filterwarnings("default")  # Prefect's own deprecations are not ours to mend

SAMPLE = "Lab/PI/Project/Session/Sample"
TOKEN = "eyJhbGciOi.s3cr3t"


def test_the_door_is_the_contract_word_for_word() -> None:
    signature = inspect.signature(brt_flow.fn)
    required = inspect.Parameter.empty
    assert [(name, parameter.annotation, parameter.default) for name, parameter in signature.parameters.items()] == [
        ("montage", "int", required),
        ("gold", "int", required),
        ("focus", "int", required),
        ("fiducialless", "int", required),
        ("trackingMethod", "int", required),
        ("TwoSurfaces", "int", required),
        ("TargetNumberOfBeads", "int", required),
        ("LocalAlignments", "int", required),
        ("THICKNESS", "int", required),
        ("file_share", "str", required),
        ("input_dir", "str", required),
        ("x_file_name", "str | None", None),
        ("callback_url", "str | None", None),
        ("token", "str | None", None),
        ("x_no_api", "bool", False),
        ("x_keep_workdir", "bool", False),
        ("adoc_template", "str", "plastic_brt"),
    ]
    assert brt_flow.name == "BRT"


def test_the_first_nine_parameters_are_those_that_the_command_has_in_the_same_order() -> None:
    assert list(inspect.signature(brt_flow.fn).parameters)[:9] == [parameter.imod_name for parameter in PARAMETERS.values()]


def test_importing_the_flow_defines_and_does_nothing_else(import_effects: Any) -> None:
    assert import_effects.variables == set()
    assert import_effects.threads == 0
    assert import_effects.files == []
    assert not import_effects.modules & {"dask", "distributed", "dask_jobqueue", "prefect_dask"}


def test_the_tasks_are_the_steps_of_the_catalogue_under_the_documented_names() -> None:
    assert [task.name for task in PRODUCT_TASKS.values()] == [step.name for step in STEPS]
    documented = {"gen_tilt_movie", "gen_thumbs", "gen_ave_mrc", "gen_recon_movie", "gen_ave_8_vol", "gen_zarr"}
    assert documented <= set(PRODUCT_TASKS)


@pytest.fixture
def sample(share: Path, small_series: Path) -> Path:
    """Put two good series and a broken one between them into a folder of the share."""
    folder = share / "Projects" / SAMPLE
    folder.mkdir(parents=True)
    shutil.copy(small_series, folder / "ts1.st")
    shutil.copy(small_series, folder / "ts10.mrc")
    (folder / "ts2.mrc").write_bytes(small_series.read_bytes()[:5000])
    return folder


def run(**changes: Any) -> Any:
    return brt_flow(**(NINE | {"file_share": "lab", "input_dir": SAMPLE} | changes))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_successes_one_error_one_callback(prefect_server: None, portal: Any, share: Path, sample: Path, fake_imod: Any) -> None:
    before = contents(share / "Projects")
    Secret(value=TOKEN).save("portal-token")
    fake_imod.setenv("TILTFLOW_CALLBACK_HOSTS", portal.url.split("/")[2])
    fake_imod.setenv("TILTFLOW_CALLBACK_SECRETS", "portal-token")
    returned = run(callback_url=portal.url, token="portal-token")

    assert portal.statuses == ["running", "success"]
    assert [sorted(body) for _, body in portal.heard] == [["status"], ["files"], ["status"]]
    assert {authorization for authorization, _ in portal.heard} == {f"Bearer {TOKEN}"}
    (told,) = portal.callbacks
    assert told == returned == json.loads((share / "Assets" / SAMPLE / "callback.json").read_text())

    assert [(entry["primaryFilePath"], entry["status"]) for entry in told["files"]] == [
        (f"{SAMPLE}/ts1.st", "success"),
        (f"{SAMPLE}/ts2.mrc", "error"),
        (f"{SAMPLE}/ts10.mrc", "success"),
    ]
    good, bad, _ = told["files"]
    assets = good["imageSet"][0]["assets"]
    assert [asset["type"] for asset in assets] == [product.asset_type for product in PRODUCTS]
    for asset in assets:
        assert asset["path"].startswith(f"{SAMPLE}/ts1/")
        assert (share / "Assets" / asset["path"]).exists()
    assert bad["imageSet"][0]["assets"] == []
    assert "ts2.mrc" in bad["message"]
    assert (share / "Assets" / SAMPLE / "ts2" / "run.json").is_file()
    assert (share / "Assets" / SAMPLE / "ts2" / "ts2.log").is_file()

    assert contents(share / "Projects") == before
    assert list((share.parents[1] / "scratch").iterdir()) == []
    for path, content in contents(share / "Assets").items():
        assert TOKEN.encode() not in content, path

    with get_client(sync_client=True) as client:
        (flow_run,) = [run for run in client.read_flow_runs(limit=50, sort=FlowRunSort.ID_DESC) if run.name == f"BRT lab {SAMPLE}"]
        task_runs = {task_run.name: task_run for task_run in client.read_task_runs(limit=200, sort=TaskRunSort.ID_DESC)}
    assert flow_run.state is not None
    assert flow_run.state.is_completed()
    assert (flow_run.state.message or "").split("\n")[0] == "2 of 3 series; failed: ts2"
    assert "ts2: " in flow_run.state.message
    with get_client(sync_client=True) as client:
        of_run = {"artifacts": {"flow_run_id": {"any_": [str(flow_run.id)]}}}
        (artifact,) = client.request("POST", "/artifacts/filter", json=of_run).json()
    assert (artifact["key"], artifact["type"]) == (ARTIFACT_KEY, "markdown")
    rows = [line.split("|")[1].strip() for line in artifact["data"].splitlines() if line.startswith("| ")]
    assert rows == ["series", "ts2", "ts1", "ts10"], "those that need a look first"
    assert artifact["data"].startswith("**3 tilt series: ")
    assert str(share / "Assets" / SAMPLE / "index.html").replace("_", "\\_") in artifact["data"].replace("\\-", "-")
    assert [entry["imageSet"][0]["imageMetadata"] for entry in told["files"]] == [None] * 3
    assert TOKEN not in flow_run.model_dump_json()
    for task in ("brt_series", "run_brt", *(step.name for step in STEPS), "cleanup_files"):
        assert f"{task} ts1" in task_runs
        assert f"{task} ts10" in task_runs
    failed = {name for name, task_run in task_runs.items() if task_run.state is not None and task_run.state.is_failed()}
    assert failed == {"run_brt ts2", "brt_series ts2"}
    assert "callback" in {name.rsplit("-", 1)[0] for name in task_runs}
    check_subflow(flow_run, task_runs)


def check_subflow(flow_run: Any, task_runs: Mapping[str, Any]) -> None:
    """Check that the page shows one named flow of the series, that recipes stay out of the database, and that a limit can hold series."""
    with get_client(sync_client=True) as client:
        (series,) = [
            run
            for run in client.read_flow_runs(limit=50, sort=FlowRunSort.ID_DESC)
            if run.parent_task_run_id in {task.id for task in task_runs.values() if task.flow_run_id == flow_run.id}
        ]
    assert series.name == "3 series of Sample"
    assert series.state.message == flow_run.state.message
    assert series.parameters == {"folder": "Sample", "series": 3}
    assert set(task_runs["brt_series ts1"].tags) == {"tiltflow", "tiltflow-engine-auto", "tiltflow-runner-threads"}
    # A limit of one on these tags would let a series wait for its own steps.
    assert all(not task.tags for name, task in task_runs.items() if not name.startswith("brt_series "))


def logged(*flow_run_ids: Any) -> list[Any]:
    """Return the lines that Prefect's pages of runs show."""
    APILogWorker.drain_all(timeout=30)
    with get_client(sync_client=True) as client:
        only = LogFilter(flow_run_id=LogFilterFlowRunId(any_=list(flow_run_ids)))
        return list(client.read_logs(log_filter=only, sort=LogSort.TIMESTAMP_ASC, limit=200, offset=0))


def test_the_call_of_a_portal_with_slashes_around_the_folder_is_the_same_run(
    prefect_server: None, share: Path, sample: Path, fake_imod: Any
) -> None:
    with tags("slashes"):
        told = run(input_dir=f"/{SAMPLE}/", x_no_api=True)
    assert [entry["primaryFilePath"] for entry in told["files"]] == [
        f"{SAMPLE}/{name}" for name in ("ts1.st", "ts2.mrc", "ts10.mrc")
    ]
    assert all(asset["path"].startswith(f"{SAMPLE}/ts1/") for asset in told["files"][0]["imageSet"][0]["assets"])
    record = read_record(share / "Assets" / SAMPLE / "ts2" / "run.json")
    message = told["files"][1]["message"]
    assert record.message is not None
    assert str(share) in record.message, "the record keeps the whole"
    assert str(share) not in message
    assert f"Projects/{SAMPLE}/ts2.mrc" in message
    with get_client(sync_client=True) as client:
        tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=["slashes"]))
        flow_runs = client.read_flow_runs(flow_run_filter=tagged, sort=FlowRunSort.ID_DESC, limit=9)
    assert len(flow_runs) == 2, "the flow, and the one in it that has the series"
    lines = logged(*(flow_run.id for flow_run in flow_runs))
    own = [line for line in lines if line.name.startswith("tiltflow.")]
    assert any("batchruntomo done in" in line.message and line.task_run_id is not None for line in own)
    assert len({(line.timestamp, line.message) for line in own}) == len(own), "each line once"
    assert not any(line.level < logging.INFO for line in own)


def test_a_line_outside_of_a_run_goes_to_no_page_and_is_no_warning(prefect_server: None) -> None:
    show_on_the_page()
    show_on_the_page()
    handlers = [handler for handler in logging.getLogger("tiltflow").handlers if isinstance(handler, APILogHandler)]
    assert len(handlers) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logging.getLogger("tiltflow.pipeline").info("nobody's line")


def test_when_all_are_bad_the_callback_is_sent_and_then_the_run_fails(
    prefect_server: None, portal: Any, sample: Path, fake_imod: Any
) -> None:
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "abort")
    fake_imod.setenv("TILTFLOW_FALLBACK_ENGINE", "off")
    with pytest.raises(TiltflowError, match=r"(?s)None of the 3 series succeeded; ts1\.st: .*NO SEED POINTS"):
        run(callback_url=portal.url, token=TOKEN)
    (told,) = portal.callbacks
    assert [entry["status"] for entry in told["files"]] == ["error"] * 3
    assert portal.statuses == ["running", "error"]
    assert {authorization for authorization, _ in portal.heard} == {f"Bearer {TOKEN}"}


def test_what_imod_gave_up_is_done_by_the_fallback_engine(prefect_server: None, portal: Any, sample: Path, fake_imod: Any) -> None:
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "abort")
    run(callback_url=portal.url, token=TOKEN, x_file_name="ts10.mrc")
    (told,) = portal.callbacks
    assert [(entry["status"], entry["message"]) for entry in told["files"]] == [("success", None)]
    assert portal.statuses == ["running", "success"]


def test_without_the_api_everything_is_made_and_nobody_hears_of_it(
    prefect_server: None, portal: Any, share: Path, sample: Path, fake_imod: Any
) -> None:
    told = run(callback_url=portal.url, token=TOKEN, x_no_api=True, x_keep_workdir=True, x_file_name="ts10.mrc")
    assert portal.heard == []
    assert [entry["primaryFilePath"] for entry in told["files"]] == [f"{SAMPLE}/ts10.mrc"]
    assert json.loads((share / "Assets" / SAMPLE / "ts10" / "callback.json").read_text()) == told
    (scratch,) = (share.parents[1] / "scratch").iterdir()
    assert (scratch / "ts10_rec.mrc").is_file()


def test_a_table_in_the_folder_holds_and_results_beside_their_series_are_left_out(
    prefect_server: None, share: Path, sample: Path, fake_imod: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fake_imod.setenv("TILTFLOW_ASSETS_URL", "https://portal/assets")
    (sample / "ts2.mrc").unlink()
    shutil.copyfile(sample / "ts1.st", sample / "ts1_rec.mrc")
    (sample / "series.csv").write_text("name,thickness\nts10,60\n")
    told = run(x_no_api=True)
    assert [Path(entry["primaryFilePath"]).name for entry in told["files"]] == ["ts1.st", "ts10.mrc"]
    assert "ts1_rec.mrc is left out" in caplog.text
    assert "series.csv: settings of their own for ts10" in caplog.text
    assets = share / "Assets" / SAMPLE
    thickness = {name: read_record(assets / name / "run.json").recipe.parameters["thickness"] for name in ("ts1", "ts10")}
    assert thickness == {"ts1": 50, "ts10": 60}
    state = json.loads((assets / "ts1" / "ts1_neuroglancer.json").read_text())
    assert state["layers"][0]["source"]["url"] == f"zarr://https://portal/assets/{SAMPLE}/ts1/ts1_rec.zarr/0/"


def test_two_axes_are_both_done_and_the_flow_says_that_they_look_like_a_pair(
    prefect_server: None, share: Path, sample: Path, fake_imod: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("xa.st", "xb.st"):
        shutil.copyfile(sample / "ts1.st", sample / name)
    for name in ("ts1.st", "ts2.mrc", "ts10.mrc"):
        (sample / name).unlink()
    told = run(x_no_api=True)
    assert [entry["status"] for entry in told["files"]] == ["success", "success"]
    remark = "xa.st and xb.st look like the two axes of one specimen"
    assert any(remark in each.getMessage() and each.levelname == "WARNING" for each in caplog.records)
    assert remark in (share / "Assets" / SAMPLE / "index.html").read_text()
    assert remark in (share / "Assets" / SAMPLE / "xb" / "xb.log").read_text()


def test_the_evidence_travels_with_the_callback_when_the_site_asks_for_it(
    prefect_server: None, share: Path, sample: Path, fake_imod: Any
) -> None:
    fake_imod.setenv("TILTFLOW_EVIDENCE_IN_CALLBACK", "true")
    told = run(x_no_api=True)
    good, bad, _ = [entry["imageSet"][0]["imageMetadata"] for entry in told["files"]]
    record = read_record(share / "Assets" / SAMPLE / "ts1" / "run.json")
    assert record.verdict is not None
    assert (good["verdict"], good["reasons"]) == (record.verdict.level, record.verdict.reasons)
    assert good["leave_out_px"] == pytest.approx(0.6)
    assert bad["verdict"] == "failed"
    assert "ts2.mrc" in bad["reasons"][0]


def test_a_server_that_takes_no_artifact_costs_the_run_nothing(
    prefect_server: None, share: Path, sample: Path, fake_imod: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no artifacts today")

    monkeypatch.setattr("tiltflow_flows.artifacts.create_markdown_artifact", refuse)
    assert run(x_no_api=True, x_file_name="ts1.st")["files"][0]["status"] == "success"


def test_a_run_that_is_repeated_does_only_what_is_not_done(
    prefect_server: None,
    portal: Any,
    share: Path,
    sample: Path,
    small_series: Path,
    fake_imod: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake_imod.setenv("TILTFLOW_ENGINE", "imod")
    first = run(x_no_api=True)
    movie = share / "Assets" / SAMPLE / "ts1" / "tiltMov_ts1.mp4"
    log = movie.with_name("ts1.log")
    before = movie.stat().st_mtime_ns, log.read_text()
    shutil.copy(small_series, sample / "ts2.mrc")
    caplog.clear()
    second = run(callback_url=portal.url)
    kept = [line.name for line in caplog.records if line.getMessage() == "ts1.st: already done by this recipe, nothing to do"]
    assert kept == ["prefect.task_runs"], "the log of the task on Prefect's page"
    assert [entry["status"] for entry in first["files"]] == ["success", "error", "success"]
    assert [entry["status"] for entry in second["files"]] == ["success"] * 3
    assert second["files"][0] == first["files"][0]
    assert (movie.stat().st_mtime_ns, log.read_text()) == before
    assert {authorization for authorization, _ in portal.heard} == {None}


def test_a_run_that_cannot_begin_is_an_error_to_the_portal_too(prefect_server: None, portal: Any, share: Path) -> None:
    with pytest.raises(LocationError, match="Unknown file share"):
        run(file_share="lap", callback_url=portal.url, token=TOKEN)
    assert portal.statuses == ["running", "error"]
    assert portal.callbacks == []


def test_a_crash_is_an_error_to_the_portal_too(
    prefect_server: None, portal: Any, sample: Path, fake_imod: Any, tmp_path: Path
) -> None:
    program = tmp_path / "imod" / "bin" / "batchruntomo"
    # Long enough for the interrupt to be seen while IMOD works: a failure of IMOD would be made good by the native engine in a second.
    program.write_text(f"#!/bin/sh\nkill -INT {os.getpid()}\nexec sleep 20\n")
    with pytest.raises(KeyboardInterrupt):
        run(callback_url=portal.url, token=TOKEN, x_file_name="ts1.st")
    assert portal.statuses == ["running", "error"]
    assert portal.callbacks == []


def test_a_montage_among_series_of_a_call_with_montage_0_is_asked_about_and_the_others_are_done(
    prefect_server: None, share: Path, sample: Path, fake_imod: Any
) -> None:
    (sample / "ts2.mrc").unlink()
    write_pieces(sample / "ts3.st", coordinates(), ("header",))
    told = run(x_no_api=True)
    assert [(entry["title"], entry["status"]) for entry in told["files"]] == [
        ("ts1", "success"),
        ("ts3", "error"),
        ("ts10", "success"),
    ]
    assert "is it a montage?" in told["files"][1]["message"]


def test_a_call_with_montage_1_does_a_montage(prefect_server: None, share: Path, sample: Path, fake_imod: Any) -> None:
    write_pieces(sample / "ts3.st", coordinates(), ("header",))
    told = run(montage=1, x_file_name="ts3.st", x_no_api=True)
    assert [entry["status"] for entry in told["files"]] == ["success"]
    assert len(told["files"][0]["imageSet"][0]["assets"]) == len(PRODUCTS)


def test_a_call_with_montage_1_stitches_natively_where_there_is_no_imod(prefect_server: None, share: Path, sample: Path) -> None:
    params = SimulationParams(size=112, views=9, beads=14, bead_nm=10, thickness_px=50, max_tilt_deg=48, seed=2)
    write_simulated(sample / "ts3.st", simulate_montage(params, overlap_px=32))
    told = run(montage=1, fiducialless=0, x_file_name="ts3.st", x_no_api=True)
    assert [entry["status"] for entry in told["files"]] == ["success"]
    assert len(told["files"][0]["imageSet"][0]["assets"]) == len(PRODUCTS)
    record = read_record(next((share / "Assets").rglob("ts3/run.json"), share))
    assert record.engine is not None
    assert record.engine.name == "native"
    assert record.montage is not None
    assert record.montage.error_px < 0.5
