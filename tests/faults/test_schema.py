"""Cases made from the service's own OpenAPI document, against the app in this process.

Every operation is asked with what the document allows and with what it forbids, in bodies,
parameters and headers. Whatever comes, the answer is one that the document states.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.schemas import APIOperation
from sound_service import sound_app

from sightline_proto import ENDPOINTS, ErrorBody

CASES = 1_000
"""Of each operation and kind; operations that take nothing are asked once."""
REPLIES = {f"{v}{e.path}": e.reply for e in ENDPOINTS for v in ("", "/v1")}


class App:
    """The app and a client of it, on an event loop that outlives each case."""

    def __init__(self) -> None:
        self._app = sound_app()
        self.asked: Counter[int] = Counter()
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._client = self._loop.run_until_complete(self._open())

    @property
    def phase(self) -> str:
        return self._app.state.service.phase

    @property
    def in_progress(self) -> int:
        return self._app.state.service.admission.requests

    async def _open(self) -> httpx.AsyncClient:
        await self._stack.enter_async_context(self._app.router.lifespan_context(self._app))
        transport = httpx.ASGITransport(self._app)
        client = httpx.AsyncClient(transport=transport, base_url="http://x")
        return await self._stack.enter_async_context(client)

    def ask(self, case: Case) -> tuple[requests.PreparedRequest, httpx.Response]:
        sent = requests.Request(**case.as_transport_kwargs(base_url="http://x")).prepare()
        headers = {k.encode("latin-1"): _raw(v) for k, v in sent.headers.items()}
        asking = self._client.request(sent.method, sent.url, content=sent.body, headers=headers)
        answer = self._loop.run_until_complete(asking)
        self.asked[answer.status_code] += 1
        return sent, answer

    def close(self) -> None:
        self._loop.run_until_complete(self._stack.aclose())
        self._loop.close()


def _raw(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")


@pytest.fixture
def app() -> Iterator[App]:
    running = App()
    yield running
    running.close()


DOCUMENT = sound_app().openapi()
OPERATIONS = {
    each.ok().label: each.ok()
    for each in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()
}


def takes_something(operation: APIOperation) -> bool:
    return bool(operation.body or operation.headers or operation.path_parameters)


ASKED_MUCH = [
    (label, mode)
    for label, operation in OPERATIONS.items()
    for mode in GenerationMode
    if takes_something(operation)
]


def test_the_cases_are_twenty_thousand():
    assert len(ASKED_MUCH) * CASES >= 20_000


@pytest.mark.parametrize(
    ("label", "mode"), ASKED_MUCH, ids=[f"{label} {mode.value}" for label, mode in ASKED_MUCH]
)
def test_every_answer_is_one_that_the_document_states(app, label, mode):
    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(OPERATIONS[label].as_strategy(generation_mode=mode))
    def ask(case: Case) -> None:
        judge(case, *app.ask(case))

    ask()
    assert app.asked.total() >= CASES, app.asked
    if label.startswith("POST") and mode is GenerationMode.POSITIVE:
        assert app.asked[200] > CASES / 20, app.asked
    assert app.phase == "ready"
    assert app.in_progress == 0


@pytest.mark.parametrize(
    "label", [each for each in OPERATIONS if not takes_something(OPERATIONS[each])]
)
def test_an_operation_that_takes_nothing_answers_as_stated(app, label):
    case = OPERATIONS[label].Case()
    judge(case, *app.ask(case))


def judge(case: Case, sent: requests.PreparedRequest, answer: httpx.Response) -> None:
    status, path = answer.status_code, case.operation.path
    stated = {int(code) for code in case.operation.definition.raw["responses"]} | {404, 405}
    hurried = status == 504 and "x-request-timeout" in sent.headers
    assert status < 500 or hurried, answer.text
    assert status in stated, answer.text
    if status >= 400 and sent.method != "HEAD":
        error = ErrorBody.model_validate_json(answer.content).error
        assert error.message
        assert error.code != "internal_error"
    elif path in REPLIES:
        reply = REPLIES[path].model_validate_json(answer.content)
        assert not any(item.error and item.error.code == "internal_error" for item in reply.items)
