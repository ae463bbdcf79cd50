"""The app as a whole: paths, keys, uploads, the door, information, metrics and logs."""

import base64
import gc
import json
import logging

import pytest

from sightline_proto import sha256_of
from sightline_service.logs import JsonFormatter, TextFormatter
from sightline_service.models.fake import FakeDetector, FakeSimilarity, Trouble
from sightline_service.served import Models

pytestmark = pytest.mark.anyio


# Paths and models


async def test_each_endpoint_has_a_short_and_a_versioned_path(serve, image, request_of):
    async with serve() as client:
        short = await client.post("/sentence_reward", json=request_of(image()))
        versioned = await client.post("/v1/sentence_reward", json=request_of(image()))
    assert short.json() == versioned.json()


async def test_unknown_paths_and_methods_are_refused_in_the_envelope(serve, error_of):
    async with serve() as client:
        assert error_of(await client.get("/nothing")) == (404, "not_found")
        response = await client.get("/token_reward")
    assert error_of(response) == (405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/token_reward", "/sentence_reward", "/perplexity"])
async def test_a_request_leaves_nothing_of_ours_to_the_garbage_collector(
    serve, image, request_of, path
):
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        async with serve() as client:
            for number in range(3):
                asked = request_of(image(number), "A dog.", "Two cats on a sofa.")
                assert (await client.post(path, json=asked)).status_code == 200
            gc.collect()
            left = {type(one) for one in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert [one for one in left if one.__module__.startswith("sightline")] == []


async def test_an_endpoint_without_its_model_says_which(serve, image, request_of, error_of):
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


async def test_an_unknown_profile_is_not_found(serve, image, request_of, error_of):
    async with serve() as client:
        named = await client.post("/token_reward", json=request_of(image()) | {"profile": "mine"})
        offsets = request_of(image())
        offsets["items"][0]["token_offsets"] = [[[0, 1]]]
        default = await client.post("/token_reward", json=offsets)
    assert error_of(named) == error_of(default) == (404, "profile_not_found")
    assert "--profile" in default.json()["error"]["message"]


async def test_a_bug_is_answered_without_its_details(
    serve, image, request_of, error_of, monkeypatch, caplog
):
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
async def test_with_keys_set_a_key_is_asked_for(serve, error_of, headers, status):
    async with serve(api_keys="first, second") as client:
        response = await client.get("/v1/info", headers=headers)
    assert response.status_code == status
    if status == 401:
        assert error_of(response) == (401, "unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"


async def test_a_refused_caller_costs_no_work(serve, image, request_of, error_of):
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


async def test_an_upload_under_a_wrong_name_is_refused(serve, image, error_of):
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


async def test_a_body_beyond_the_limit_is_refused_by_its_declared_length(serve, error_of):
    async with serve(max_body_bytes=1000) as client:
        response = await client.post("/token_reward", content=b"x" * 1001)
    assert error_of(response) == (413, "payload_too_large")
    assert "1000" in response.json()["error"]["message"]


async def test_a_chunked_body_is_bounded_as_it_arrives(serve, error_of):
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


async def test_metrics_have_their_names_and_no_captions(serve, image, request_of):
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
