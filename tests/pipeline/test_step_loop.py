"""The order of the steps, and what becomes of a series when one of them fails, whoever runs them."""

from pathlib import Path

import pytest

from tiltflow.errors import StageError
from tiltflow.pipeline import Job, StepOutcome, StepRunner, process, work_on
from tiltflow.products.catalogue import STEPS
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow.record import read_record
from tiltflow.work import SeriesResult, Site

NAMES = [step.name for step in STEPS]
JOB = Job(Path("B.st"), make_recipe(BrtParameters(thickness=50)), Site(), Path("out"), Path("work"))


class Diary:
    """A runner that runs nothing, writes down what it was asked for, and fails where it is told to."""

    def __init__(self, fails_at=None, error=None):
        self.asked = []
        self.finished_with = None
        self._fails_at = fails_at
        self._error = error

    def runner(self):
        return StepRunner(lambda _job: self.step("reconstruct"), lambda _job, name: self.step(name), self.finish)

    def step(self, name):
        self.asked.append(name)
        if name == self._fails_at:
            raise self._error
        return StepOutcome((name,))

    def finish(self, job, outcomes, error, stage):
        self.asked.append("finish")
        self.finished_with = ([outcome.assets[0] for outcome in outcomes], error, stage)
        return SeriesResult(job.source, "success" if error is None else "error")


def test_the_steps_are_run_in_the_order_of_the_catalogue_between_reconstruction_and_finish():
    diary = Diary()
    assert work_on(JOB, diary.runner()).ok
    assert diary.asked == ["reconstruct", *NAMES, "finish"]
    assert diary.finished_with == (NAMES, None, NAMES[-1])


@pytest.mark.parametrize(
    "error", [StageError("blank"), KeyError("defect"), KeyboardInterrupt()], ids=lambda error: type(error).__name__
)
@pytest.mark.parametrize("name", ["reconstruct", *NAMES])
def test_a_step_that_fails_ends_the_work_and_the_series_is_finished_all_the_same(name, error):
    diary = Diary(fails_at=name, error=error)
    assert not work_on(JOB, diary.runner()).ok
    before = NAMES[: NAMES.index(name)] if name in NAMES else []
    assert diary.asked == [*dict.fromkeys(["reconstruct", *before, name]), "finish"]
    assert diary.finished_with == (before, error, name if name in NAMES else None)


def test_what_the_last_step_raises_is_held_back_by_nobody():
    def refuse(*_):
        raise KeyboardInterrupt

    diary = Diary()
    with pytest.raises(KeyboardInterrupt):
        work_on(JOB, StepRunner(diary.runner().reconstruct, diary.runner().make_products, refuse))


def test_a_series_is_worked_on_by_the_runner_that_is_given(small_series, tmp_path):
    diary = Diary()
    words = []
    result = process(
        small_series, JOB.recipe, Site(scratch=tmp_path), output=tmp_path, runner=diary.runner(), on_progress=words.append
    )
    assert diary.asked == ["reconstruct", *NAMES, "finish"]
    assert [word.result for word in words] == [result]


def test_a_series_that_is_kept_is_given_to_no_runner_and_the_caller_hears_why(small_series, tmp_path, fake_imod):
    recipe = make_recipe(BrtParameters(thickness=50), engine="imod")
    first = process(small_series, recipe, Site(scratch=tmp_path), output=tmp_path / "B")
    diary, words = Diary(), []
    again = process(
        small_series, recipe, Site(scratch=tmp_path), output=tmp_path / "B", runner=diary.runner(), on_progress=words.append
    )
    assert again == first
    assert diary.asked == []
    assert [(word.note, word.result) for word in words] == [("already done by this recipe, nothing to do", first)]
    assert read_record(tmp_path / "B" / "run.json").status == "success"
