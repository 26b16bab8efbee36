"""The one loop over the steps of a series: their order, and the boundary at which any failure ends this series alone.

A runner decides only how each step is run: by a call, or as a task of an orchestrator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tiltflow.pipeline.job import Job, StepOutcome
from tiltflow.products.catalogue import STEPS

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class StepRunner(Generic[R_co]):
    """How each step is run; a runner raises what its step raises.

    Attributes
    ----------
    reconstruct
        Runs :func:`tiltflow.pipeline.reconstruct_step`.
    make_products
        Runs :func:`tiltflow.pipeline.product_step` for a step of the catalogue, given by name.
    finish
        Runs :func:`tiltflow.pipeline.finish_step`, with the outcomes of the product steps and, after a failure, the exception and the
        product step that raised it; or :func:`tiltflow.pipeline.steps.publish_step`, to do the rest later.
    """

    reconstruct: Callable[[Job], object]
    make_products: Callable[[Job, str], StepOutcome]
    finish: Callable[[Job, Sequence[StepOutcome], BaseException | None, str | None], R_co]


def work_on(job: Job, runner: StepRunner[R_co]) -> R_co:
    """Run every step of a series in order, the last of them also after a failure, and return what that returns.

    Raises
    ------
    BaseException
        An interrupt, once it is recorded.
    """
    outcomes: list[StepOutcome] = []
    error: BaseException | None = None
    stage: str | None = None
    try:
        runner.reconstruct(job)
        for step in STEPS if "products" in job.parts else ():
            stage = step.name
            outcomes.append(runner.make_products(job, stage))
    except BaseException as caught:  # noqa: BLE001  the boundary: finish_step records it, and re-raises an interrupt
        error = caught
    return runner.finish(job, outcomes, error, stage)
