"""Too much or too late: a full house, deadlines, and callers who hang up."""

import asyncio
import json
import time

import httpx
import pytest

from sightline_service.app import create_app
from sightline_service.models.fake import FakePerplexity, FakeSimilarity, Trouble
from sightline_service.served import Models
from sightline_service.settings import Settings

pytestmark = pytest.mark.anyio

SLOW = Trouble(delay_s=0.2)


# The door


async def test_a_full_house_is_told_when_to_try_again(
    serve, models, image, request_of, error_of, until
):
    slow = models(similarity=FakeSimilarity(SLOW))
    async with serve(slow, max_concurrent_requests=1) as client:
        first = asyncio.create_task(client.post("/sentence_reward", json=request_of(image(1))))
        await until(lambda: client.service.admission.requests == 1)
        second = await client.post("/sentence_reward", json=request_of(image(2)))
        health = await client.get("/readyz")
        assert (await first).status_code == 200
        third = await client.post("/sentence_reward", json=request_of(image(2)))
    assert error_of(second) == (429, "overloaded")
    assert int(second.headers["retry-after"]) >= 1
    assert (health.status_code, third.status_code) == (200, 200)


async def test_a_full_queue_refuses_before_any_image_is_decoded(
    serve, models, image, request_of, error_of, until
):
    slow = models(similarity=FakeSimilarity(SLOW))
    async with serve(slow, max_queue_items=10) as client:
        large = request_of(image(1), *(f"text {n}" for n in range(20)))
        first = asyncio.create_task(client.post("/sentence_reward", json=large))
        await until(lambda: client.service.admission.items == 21)
        await asyncio.sleep(0.05)
        misses = client.service.engine.embedder.cache.misses
        second = await client.post("/sentence_reward", json=request_of(image(2)))
        assert client.service.engine.embedder.cache.misses == misses
        assert (await first).status_code == 200
    assert error_of(second) == (429, "overloaded")


async def test_a_thousand_clients_all_get_a_score_or_a_429(serve, models, image, request_of):
    slow = models(
        similarity=FakeSimilarity(Trouble(delay_s=0.005)), perplexity=FakePerplexity(SLOW)
    )
    body = [request_of(image(number)) for number in range(20)]
    async with serve(slow, max_concurrent_requests=40, max_queue_items=60) as client:

        async def ask(number: int) -> httpx.Response:
            await asyncio.sleep(number % 10 / 20)
            return await client.post("/sentence_reward", json=body[number % 20])

        async with asyncio.timeout(60):
            responses = await asyncio.gather(*map(ask, range(1000)))
        admission = client.service.admission
        assert (admission.requests, admission.items, admission.bytes) == (0, 0, 0)
        metrics = (await client.get("/metrics")).text
    statuses = [response.status_code for response in responses]
    assert set(statuses) == {200, 429}
    assert all("retry-after" in each.headers for each in responses if each.status_code == 429)
    scores = {json.dumps(each.json()["items"]) for each in responses if each.status_code == 200}
    assert len(scores) <= 20
    refused = statuses.count(429)
    assert (
        f'sightline_requests_total{{endpoint="sentence_reward",outcome="overloaded"}} {refused}.0'
        in metrics
    )


# Time


async def test_a_request_beyond_its_deadline_is_ended_and_its_work_dropped(
    serve, models, image, request_of, error_of, until
):
    similarity = FakeSimilarity(Trouble(delay_s=1.0))
    async with serve(models(similarity=similarity), request_timeout_s=0.3) as client:
        admission, batchers = client.service.admission, client.service.engine.batchers
        first = asyncio.create_task(client.post("/sentence_reward", json=request_of(image(1))))
        await until(lambda: bool(similarity.batch_sizes))
        started = time.monotonic()
        second = await client.post("/sentence_reward", json=request_of(image(2)))
        assert time.monotonic() - started < 0.9
        assert (admission.items, batchers["similarity"].waiting) == (0, 0)
        assert error_of(await first) == error_of(second) == (504, "deadline_exceeded")
        await until(lambda: not batchers["similarity"]._running)
    assert similarity.batch_sizes == [1]  # what waited behind it never ran


async def test_a_caller_may_shorten_the_deadline(serve, models, error_of):
    slow = models(perplexity=FakePerplexity(SLOW))
    body = {"items": [{"texts": ["a"]}]}
    async with serve(slow) as client:
        short = await client.post("/perplexity", json=body, headers={"x-request-timeout": "0.05"})
        enough = await client.post("/perplexity", json=body, headers={"x-request-timeout": "99"})
    assert error_of(short) == (504, "deadline_exceeded")
    assert enough.status_code == 200


@pytest.mark.parametrize("value", ["abc", "0", "-1", "nan"])
async def test_an_odd_deadline_is_refused(serve, error_of, value):
    async with serve() as client:
        response = await client.post(
            "/perplexity", json={"items": [{"texts": ["a"]}]}, headers={"x-request-timeout": value}
        )
    assert error_of(response) == (422, "invalid_field")
    assert response.json()["error"]["param"] == "X-Request-Timeout"


async def test_the_work_of_a_caller_who_hung_up_is_dropped(image, request_of):
    similarity = FakeSimilarity(Trouble(delay_s=1.0))
    app = create_app(Settings(similarity="fake"), Models(similarity=similarity))
    body = json.dumps(request_of(image())).encode()
    messages: list[dict] = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[dict] = []

    async def receive() -> dict:
        if messages:
            return messages.pop(0)
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/sentence_reward", "headers": headers}
    scope |= {"query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1"}
    async with app.router.lifespan_context(app):
        started = time.monotonic()
        await app(scope, receive, send)
        assert time.monotonic() - started < 0.9
        assert app.state.service.admission.items == 0
    assert sent == []
