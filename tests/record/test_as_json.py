from __future__ import annotations

import json
import os
import signal
import threading

import pytest
from pydantic import BaseModel, field_serializer

from tiltflow.record.as_json import as_json
from tiltflow.stopping import held


class SignalledMeanwhile(BaseModel):
    value: int = 1

    @field_serializer("value")
    def _drop_what_is_raised(self, value: int) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(1000):  # a handler runs between two instructions
                pass
        except KeyboardInterrupt:  # as pydantic's serializer does with what is raised in a look for an attribute
            return 2
        return value


@pytest.fixture
def stopped_by_signals():
    def stop(_number, _frame):
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_an_interrupt_during_serialisation_is_not_lost(stopped_by_signals):
    assert json.loads(SignalledMeanwhile().model_dump_json())["value"] == 2, "this model drops it"
    with pytest.raises(KeyboardInterrupt):
        as_json(SignalledMeanwhile())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_comes_when_the_block_is_done(stopped_by_signals, number):
    reached = []

    def block():
        with held():
            signal.raise_signal(number)
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        block()
    assert reached
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_an_error_of_the_block_is_told_and_handlers_are_put_back(stopped_by_signals):
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="of the block"), held():
        raise ValueError("of the block")
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_signal_is_not_lost_where_the_block_raises_too(stopped_by_signals):
    def block():
        with held():
            signal.raise_signal(signal.SIGTERM)
            raise ValueError("of the block")

    with pytest.raises(KeyboardInterrupt):
        block()


def test_other_threads_leave_signals_alone():
    seen = []

    def work():
        with held():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
