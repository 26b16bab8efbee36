"""What the tests of the outbox share: a clock that is set, a portal with answers, and runs with messages."""

from __future__ import annotations

import json
from typing import Any

import httpx
from pydantic import SecretStr

from tiltflow.delivery.outbox import Outbox, RunEntry, deliver

URL = "https://portal.example/api/done"
SITE = SecretStr("of-the-site")
WHOLE = [{"status": "running"}, {"files": ["r1"]}, {"status": "success"}]


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Portal:
    """Answers with the given things in order, the last one for ever."""

    def __init__(self, *answers: int | Exception | httpx.Response) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.transport = httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else httpx.Response(answer)

    @property
    def heard(self) -> list[Any]:
        return [json.loads(request.content) for request in self.requests]

    def deliver(self, outbox: Outbox, **options: Any) -> Any:
        return deliver(outbox, lambda: SITE, transport=self.transport, sleep=lambda _: None, **options)


def begin(outbox: Outbox, run: str = "r1", **more: Any) -> None:
    outbox.begin(RunEntry(run=run, about=f"folder of {run}", **({"url": URL} | more)))


def fill(outbox: Outbox, run: str = "r1", final: str = "success") -> None:
    outbox.put(run, "running", run, '{"status":"running"}')
    outbox.put(run, "result", run, json.dumps({"files": [run]}))
    outbox.put(run, "final", run, json.dumps({"status": final}))
