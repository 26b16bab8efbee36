"""The one loop over the steps of a series: their order, and the boundary at which whatever goes wrong ends this series alone.

Who runs the steps decides how each is run, by a call or as a task of an orchestrator, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tiltflow.model import SeriesResult
from tiltflow.pipeline.job import Job, StepOutcome
from tiltflow.products.catalogue import STEPS


@dataclass(frozen=True, slots=True)
class StepRunner:
    """How each step is run; what a step raises, its runner raises.

    Attributes
    ----------
    reconstruct
        Runs :func:`tiltflow.pipeline.reconstruct_step`.
    make_products
        Runs :func:`tiltflow.pipeline.product_step` for the step of the catalogue that it is given the name of.
    finish
        Runs :func:`tiltflow.pipeline.finish_step`, with what the product steps made, and the exception that ended the work and the
        product step it came from, if there are any.
    """

    reconstruct: Callable[[Job], object]
    make_products: Callable[[Job, str], StepOutcome]
    finish: Callable[[Job, Sequence[StepOutcome], BaseException | None, str | None], SeriesResult]


def work_on(job: Job, runner: StepRunner) -> SeriesResult:
    """Run every step of a series in order, the last of them whatever became of the others, and return its result."""
    outcomes: list[StepOutcome] = []
    error: BaseException | None = None
    stage: str | None = None
    try:
        runner.reconstruct(job)
        for step in STEPS:
            stage = step.name
            outcomes.append(runner.make_products(job, stage))
    except BaseException as caught:  # noqa: BLE001  the boundary: finish_step records it, and raises again what must not be held back
        error = caught
    return runner.finish(job, outcomes, error, stage)
