"""The app as a whole: the door, keys, health, deadlines, draining, metrics and logs."""

import asyncio
import base64
import json
import logging
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from sightline_proto import sha256_of
from sightline_service.app import create_app
from sightline_service.logs import JsonFormatter, TextFormatter
from sightline_service.models.fake import (
    FakeDetector,
    FakePerplexity,
    FakeSimilarity,
    Trouble,
)
from sightline_service.served import Models
from sightline_service.settings import Settings

pytestmark = pytest.mark.anyio

SLOW = Trouble(delay_s=0.2)


def request_of(data: bytes, *texts: str) -> dict:
    return {"items": [{"image": base64.b64encode(data).decode(), "texts": list(texts) or ["a"]}]}


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


def error_of(response: httpx.Response) -> tuple[int, str]:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "Traceback" not in response.text
    return response.status_code, error["code"]


# Paths and models


async def test_each_endpoint_has_a_short_and_a_versioned_path(serve, image):
    async with serve() as client:
        short = await client.post("/sentence_reward", json=request_of(image()))
        versioned = await client.post("/v1/sentence_reward", json=request_of(image()))
    assert short.json() == versioned.json()


async def test_unknown_paths_and_methods_are_refused_in_the_envelope(serve):
    async with serve() as client:
        assert error_of(await client.get("/nothing")) == (404, "not_found")
        response = await client.get("/token_reward")
    assert error_of(response) == (405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


async def test_an_endpoint_without_its_model_says_which(serve, image):
    async with serve(Models(similarity=FakeSimilarity())) as client:
        response = await client.post("/perplexity", json={"items": [{"texts": ["a"]}]})
        body = {"items": [{"image": "eA==", "phrases": ["a"]}]}
        other = await client.post("/ground", json=body)
        served = (await client.get("/v1/models")).json()["data"]
    assert error_of(response) == error_of(other) == (503, "model_not_served")
    assert "--perplexity" in response.json()["error"]["message"]
    assert [model["role"] for model in served] == ["similarity"]
    async with serve(Models(detector=FakeDetector())) as client:
        response = await client.post("/token_reward", json=request_of(image()))
    assert error_of(response) == (503, "model_not_served")


async def test_an_unknown_profile_is_not_found(serve, image):
    async with serve() as client:
        named = await client.post("/token_reward", json=request_of(image()) | {"profile": "mine"})
        offsets = request_of(image())
        offsets["items"][0]["token_offsets"] = [[[0, 1]]]
        default = await client.post("/token_reward", json=offsets)
    assert error_of(named) == error_of(default) == (404, "profile_not_found")
    assert "--profile" in default.json()["error"]["message"]


async def test_a_bug_is_answered_without_its_details(serve, image, monkeypatch, caplog):
    async with serve() as client:

        async def fail(request):
            raise KeyError("a secret")

        monkeypatch.setattr(client.service.engine, "_perplexity", None)
        monkeypatch.setattr(client.service.engine._sentence_reward, "score", fail)
        response = await client.post(
            "/sentence_reward", json=request_of(image()), headers={"x-request-id": "r1"}
        )
    assert error_of(response) == (500, "internal_error")
    assert "secret" not in response.text
    assert response.headers["x-request-id"] == "r1"
    assert any(record.exc_info for record in caplog.records)


# Keys


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic first"}, 401),
        ({"x-api-key": "fïrst".encode()}, 401),
        ({"authorization": "Bearer first"}, 200),
        ({"authorization": "bearer second"}, 200),
        ({"x-api-key": "second"}, 200),
    ],
)
async def test_with_keys_set_a_key_is_asked_for(serve, headers, status):
    async with serve(api_keys="first, second") as client:
        response = await client.get("/v1/info", headers=headers)
    assert response.status_code == status
    if status == 401:
        assert error_of(response) == (401, "unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"


async def test_a_refused_caller_costs_no_work(serve, image):
    async with serve(api_keys="first") as client:
        response = await client.post("/sentence_reward", json=request_of(image()))
        assert client.service.engine.embedder.cache.misses == 0
    assert error_of(response) == (401, "unauthorized")


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/health", "/metrics", "/ui"])
async def test_probes_metrics_and_the_page_need_no_key(serve, path):
    async with serve(api_keys="first") as client:
        assert (await client.get(path)).status_code == 200


async def test_metrics_may_be_guarded_too(serve):
    async with serve(api_keys="first", metrics_open=False) as client:
        assert (await client.get("/metrics")).status_code == 401


async def test_keys_come_from_a_file_too(serve, tmp_path):
    file = tmp_path / "keys"
    file.write_text("one\n\ntwo\n")
    async with serve(api_key_file=file) as client:
        assert (await client.get("/v1/info", headers={"x-api-key": "two"})).status_code == 200
        assert (await client.get("/v1/info", headers={"x-api-key": ""})).status_code == 401


# Uploads


async def test_an_image_is_put_once_and_referred_to_by_hash(serve, image):
    data = image()
    path = f"/v1/images/{sha256_of(data)}"
    async with serve() as client:
        missing = await client.head(path)
        put = await client.put(path, content=data)
        there = await client.head(path)
    assert (missing.status_code, put.status_code, there.status_code) == (404, 201, 200)
    assert missing.content == b""
    assert put.json() == {"sha256": sha256_of(data), "bytes": len(data)}


async def test_an_upload_under_a_wrong_name_is_refused(serve, image):
    async with serve() as client:
        wrong = await client.put("/v1/images/" + "0" * 64, content=image())
        odd = await client.put("/v1/images/xyz", content=image())
        large = await client.put("/v1/images/" + "0" * 64, content=b"x" * 2000)
    assert error_of(wrong) == (422, "hash_mismatch")
    assert error_of(odd) == (422, "invalid_field")
    assert large.status_code == 422
    async with serve(max_image_bytes=1000) as client:
        large = await client.put("/v1/images/" + "0" * 64, content=b"x" * 2000)
    assert error_of(large) == (413, "payload_too_large")


async def test_the_store_of_images_is_bounded(serve, image):
    sizes = [len(image(number)) for number in range(6)]
    async with serve(image_store_bytes=sum(sizes[:3]) + 3 * 64) as client:
        for number in range(6):
            data = image(number)
            await client.put(f"/v1/images/{sha256_of(data)}", content=data)
        store = client.service.store
        held = [sha256_of(image(number)) in store for number in range(6)]
        assert store.cache.bytes <= store.cache.capacity_bytes
    assert held[-1]
    assert not held[0]


# The door


async def test_a_body_beyond_the_limit_is_refused_by_its_declared_length(serve):
    async with serve(max_body_bytes=1000) as client:
        response = await client.post("/token_reward", content=b"x" * 1001)
    assert error_of(response) == (413, "payload_too_large")
    assert "1000" in response.json()["error"]["message"]


async def test_a_chunked_body_is_bounded_as_it_arrives(serve):
    sent = 0

    async def chunks():
        nonlocal sent
        for _ in range(100):
            sent += 100
            yield b"x" * 100

    async with serve(max_body_bytes=1000) as client:
        response = await client.post(
            "/token_reward", content=chunks(), headers={"content-type": "application/json"}
        )
        assert client.service.admission.bytes == 0
    assert error_of(response) == (413, "payload_too_large")
    assert sent < 2000


async def test_a_full_house_is_told_when_to_try_again(serve, models, image):
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


async def test_a_full_queue_refuses_before_any_image_is_decoded(serve, models, image):
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


async def test_a_thousand_clients_all_get_a_score_or_a_429(serve, models, image):
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


async def test_a_request_beyond_its_deadline_is_ended_and_its_work_dropped(serve, models, image):
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


async def test_a_caller_may_shorten_the_deadline(serve, models):
    slow = models(perplexity=FakePerplexity(SLOW))
    body = {"items": [{"texts": ["a"]}]}
    async with serve(slow) as client:
        short = await client.post("/perplexity", json=body, headers={"x-request-timeout": "0.05"})
        enough = await client.post("/perplexity", json=body, headers={"x-request-timeout": "99"})
    assert error_of(short) == (504, "deadline_exceeded")
    assert enough.status_code == 200


@pytest.mark.parametrize("value", ["abc", "0", "-1", "nan"])
async def test_an_odd_deadline_is_refused(serve, value):
    async with serve() as client:
        response = await client.post(
            "/perplexity", json={"items": [{"texts": ["a"]}]}, headers={"x-request-timeout": value}
        )
    assert error_of(response) == (422, "invalid_field")
    assert response.json()["error"]["param"] == "X-Request-Timeout"


async def test_the_work_of_a_caller_who_hung_up_is_dropped(image):
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


# Health and life


async def test_readiness_tells_the_state_of_each_model(serve):
    async with serve() as client:
        for path in ("/readyz", "/health"):
            assert (await client.get(path)).json() == {
                "status": "ready",
                "models": {
                    "similarity": "ready",
                    "detector": "ready",
                    "perplexity": "ready",
                },
            }


class Dying(FakeSimilarity):
    def embed_texts(self, batch):
        raise SystemExit


async def test_a_dead_worker_turns_readiness_off_and_hangs_nobody(serve, models, image):
    async with serve(models(similarity=Dying())) as client:
        async with asyncio.timeout(5):
            dying = await client.post("/sentence_reward", json=request_of(image()))
            after = await client.post("/sentence_reward", json=request_of(image(1)))
        ready = await client.get("/readyz")
        alive = await client.get("/healthz")
        other = await client.post("/perplexity", json={"items": [{"texts": ["a"]}]})
        metrics = (await client.get("/metrics")).text
    assert error_of(dying) == error_of(after) == (503, "not_ready")
    assert ready.status_code == 503
    assert "retry-after" in ready.headers
    assert ready.json()["models"]["similarity"] == "dead"
    assert ready.json()["error"]["code"] == "not_ready"
    assert (alive.status_code, other.status_code) == (200, 200)
    assert 'sightline_model_ready{model="similarity"} 0.0' in metrics
    assert 'sightline_model_ready{model="detector"} 1.0' in metrics


class SlowLoader:
    roles = ("similarity",)

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.may_end = threading.Event()

    def __call__(self, report):
        report("similarity", "loading")
        assert self.may_end.wait(10)
        if self.failure:
            raise self.failure
        report("similarity", "ready")
        return Models(similarity=FakeSimilarity())


async def test_while_models_load_probes_answer_and_scoring_waits(image):
    loader = SlowLoader()
    app = create_app(Settings(similarity="fake"), loader)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        await until(lambda: app.state.service.model_states() == {"similarity": "loading"})
        alive, ready = await client.get("/healthz"), await client.get("/readyz")
        scoring = await client.post("/sentence_reward", json=request_of(image()))
        loader.may_end.set()
        await until(lambda: app.state.service.phase == "ready")
        later = await client.post("/sentence_reward", json=request_of(image()))
        metrics = (await client.get("/metrics")).text
    assert alive.status_code == 200
    assert (ready.status_code, ready.json()["models"]) == (503, {"similarity": "loading"})
    assert error_of(scoring) == (503, "not_ready")
    assert "retry-after" in scoring.headers
    assert later.status_code == 200
    assert 'sightline_model_load_seconds{model="similarity"} 0.' in metrics


async def test_a_failed_load_is_kept_for_whoever_started_the_service():
    loader = SlowLoader(ValueError("no such file"))
    loader.may_end.set()
    app = create_app(Settings(similarity="fake"), loader)
    async with app.router.lifespan_context(app):
        async with asyncio.timeout(5):
            await app.state.service.failed.wait()
        assert str(app.state.service.failure) == "no such file"
        assert app.state.service.phase == "failed"


async def test_draining_finishes_what_is_accepted_and_refuses_the_rest(serve, models, image):
    slow = models(similarity=FakeSimilarity(SLOW))
    async with serve(slow) as client:
        accepted = asyncio.create_task(client.post("/sentence_reward", json=request_of(image())))
        await until(lambda: client.service.admission.requests == 1)
        drain = asyncio.create_task(client.service.drain())
        await asyncio.sleep(0.01)
        refused = await client.post("/sentence_reward", json=request_of(image(2)))
        ready, alive = await client.get("/readyz"), await client.get("/healthz")
        assert not drain.done()
        assert (await accepted).status_code == 200
        async with asyncio.timeout(5):
            await drain
    assert error_of(refused) == (503, "draining")
    assert "retry-after" in refused.headers
    assert (ready.status_code, ready.json()["status"]) == (503, "draining")
    assert alive.status_code == 200


async def test_draining_ends_in_time_whatever_is_running(serve, models, image):
    slow = models(similarity=FakeSimilarity(Trouble(delay_s=2.0)))
    async with serve(slow, drain_timeout_s=0.05) as client:
        accepted = asyncio.create_task(client.post("/sentence_reward", json=request_of(image())))
        await until(lambda: client.service.admission.requests == 1)
        async with asyncio.timeout(1.5):
            await client.service.drain()
            await client.service.close()
            assert error_of(await accepted) == (503, "draining")


# Information


async def test_info_tells_every_limit(serve, image):
    async with serve(max_queue_items=77, request_timeout_s=9) as client:
        info = (await client.get("/v1/info")).json()
    assert info["limits"]["queued_items"] == 77
    assert info["limits"]["request_timeout_s"] == 9
    assert info["limits"]["items"] == 64
    assert {model["role"]: model["endpoints"] for model in info["models"]} == {
        "similarity": ["token_reward", "sentence_reward"],
        "detector": ["ground"],
        "perplexity": ["perplexity"],
    }
    assert "PNG" in info["image_formats"]


async def test_metrics_have_their_names_and_no_captions(serve, image):
    async with serve() as client:
        await client.post("/sentence_reward", json=request_of(image(), "A secret caption."))
        await client.post("/sentence_reward", json={"items": []})
        await client.get("/secret/path")
        text = (await client.get("/metrics")).text
    for line in (
        'sightline_requests_total{endpoint="sentence_reward",outcome="ok"} 1.0',
        'sightline_requests_total{endpoint="sentence_reward",outcome="invalid_field"} 1.0',
        'sightline_requests_total{endpoint="other",outcome="not_found"} 1.0',
        'sightline_request_duration_seconds_count{endpoint="sentence_reward"} 2.0',
        'sightline_items_total{endpoint="sentence_reward",outcome="ok"} 1.0',
        'sightline_batch_size_count{lane="images",model="similarity"} 1.0',
        'sightline_queue_wait_seconds_count{lane="texts",model="similarity"} 1.0',
        'sightline_stage_duration_seconds_count{stage="prepare"}',
        'sightline_stage_duration_seconds_count{stage="forward"}',
        'sightline_cache_misses_total{cache="embeddings"} 2.0',
        'sightline_cache_misses_total{cache="images"} 0.0',
        'sightline_batch_queue_items{model="detector"} 0.0',
        'sightline_truncated_texts_total{endpoint="sentence_reward"} 0.0',
        "sightline_queue_items 0.0",
        "sightline_requests_in_flight 0.0",
        "process_resident_memory_bytes",
    ):
        assert line in text, line
    assert "secret" not in text


async def test_logs_carry_the_request_id_and_no_captions(serve, models, image, caplog):
    caplog.set_level(logging.DEBUG)
    broken = models(similarity=FakeSimilarity(Trouble(fail_on="secret")))
    data = base64.b64encode(image()).decode()
    async with serve(broken) as client:
        for texts in (["a secret caption"], ["secret " * 5000], [5]):
            body = {"items": [{"image": data, "texts": texts}]}
            response = await client.post(
                "/sentence_reward", json=body, headers={"x-request-id": "id-17"}
            )
            assert response.headers["x-request-id"] == "id-17"
    for formatter in (JsonFormatter(), TextFormatter()):
        lines = [formatter.format(record) for record in caplog.records]
        assert not any("secret" in line or data[:40] in line for line in lines)
    failures = [record for record in caplog.records if record.exc_info]
    assert failures
    entry = json.loads(JsonFormatter().format(failures[0]))
    assert "FakeModelError" in entry["error"]
    assert "secret" in JsonFormatter(with_messages=True).format(failures[0])


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, "naïve".encode()])
async def test_an_odd_request_id_is_replaced(serve, given):
    async with serve() as client:
        response = await client.get("/healthz", headers={"x-request-id": given})
    assert response.headers["x-request-id"] not in ("", given)
    assert len(response.headers["x-request-id"]) == 32
