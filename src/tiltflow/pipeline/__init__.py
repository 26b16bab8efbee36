"""From a tilt series to its products and its record.

:func:`process` does one series, :func:`run` a list of them.  The same work is cut into steps that can run in different processes
(:func:`reconstruct_step`, :func:`product_step`, :func:`finish_step`), which is what an orchestrator wraps; their order is stated once, in
:func:`work_on`.  A series that fails is a result with `status="error"`, its stage and its reason; it never affects another series.
"""

from tiltflow.pipeline.conclusion import close_lost
from tiltflow.pipeline.dead_runs import RunPlan, close_dead_run, close_dead_runs, dead_run_like, is_same_work
from tiltflow.pipeline.import_alignment import import_alignment
from tiltflow.pipeline.intact import Checked, check_results
from tiltflow.pipeline.job import RECORD_NAME, Job, OnProgress, RunResult, SeriesProgress, StepOutcome
from tiltflow.pipeline.log import series_log
from tiltflow.pipeline.one_series import process
from tiltflow.pipeline.request import Prepared, prepare
from tiltflow.pipeline.resource_forecast import Forecast, forecast, planner
from tiltflow.pipeline.resume import look_back
from tiltflow.pipeline.run import recorded_run, require_free, require_places, run
from tiltflow.pipeline.step_loop import StepRunner, work_on
from tiltflow.pipeline.steps import finish_step, product_step, reconstruct_step

__all__ = [
    "RECORD_NAME",
    "Checked",
    "Forecast",
    "Job",
    "OnProgress",
    "Prepared",
    "RunPlan",
    "RunResult",
    "SeriesProgress",
    "StepOutcome",
    "StepRunner",
    "check_results",
    "close_dead_run",
    "close_dead_runs",
    "close_lost",
    "dead_run_like",
    "finish_step",
    "forecast",
    "import_alignment",
    "is_same_work",
    "look_back",
    "planner",
    "prepare",
    "process",
    "product_step",
    "reconstruct_step",
    "recorded_run",
    "require_free",
    "require_places",
    "run",
    "series_log",
    "work_on",
]
