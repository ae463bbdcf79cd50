"""What is computed once: in flight and in the cache."""

import asyncio
import base64

import pytest

from sightline_proto import sha256_of
from sightline_service.models.fake import FakeSimilarity, Trouble

pytestmark = pytest.mark.anyio


def item(data: bytes, *texts: str) -> dict:
    return {"image": base64.b64encode(data).decode(), "texts": list(texts)}


async def test_identical_requests_in_flight_are_embedded_once(serve, models, image):
    similarity = FakeSimilarity(Trouble(delay_s=0.02))
    body = {"items": [item(image(), "A dog.")]}
    async with serve(models(similarity=similarity), embedding_cache_bytes=0) as client:
        replies = await asyncio.gather(
            *(client.post("/sentence_reward", json=body) for _ in range(20))
        )
    assert len({reply.text for reply in replies}) == 1
    assert sum(similarity.batch_sizes) == 2  # one image, one text


async def test_a_token_reward_of_known_words_costs_one_image_forward(serve, models, image):
    similarity = FakeSimilarity()
    async with serve(models(similarity=similarity)) as client:
        await client.post("/token_reward", json={"items": [item(image(1), "A dog and a cat.")]})
        similarity.batch_sizes.clear()
        texts = ["The cat sees the dog.", "DOG, dog and cat"]
        response = await client.post("/token_reward", json={"items": [item(image(2), *texts)]})
    assert similarity.batch_sizes == [1]
    assert len(response.json()["items"][0]["results"][1]["spans"]) == 3


async def test_the_cache_of_embeddings_is_bounded_in_bytes(serve, image):
    async with serve(embedding_cache_bytes=5_000) as client:
        for number in range(30):
            body = {"items": [item(image(number), f"text {number}")]}
            assert (await client.post("/sentence_reward", json=body)).status_code == 200
        cache = client.service.engine.embedder.cache
        assert 0 < cache.bytes <= 5_000
        assert len(cache) < 10


async def test_a_known_embedding_needs_no_stored_image(serve, image):
    data = image()
    body = {"items": [item(data, "A dog.")]}
    async with serve() as client:
        first = await client.post("/sentence_reward", json=body)
        body["items"][0]["image"] = f"sha256:{sha256_of(data)}"
        again = await client.post("/sentence_reward", json=body)
    assert again.json() == first.json()


async def test_a_failed_text_is_tried_again(serve, models, image):
    similarity = FakeSimilarity(Trouble(fail_on="A dog"))
    body = {"items": [item(image(), "A dog.")]}
    async with serve(models(similarity=similarity)) as client:
        first = await client.post("/sentence_reward", json=body)
        similarity._trouble = Trouble()
        second = await client.post("/sentence_reward", json=body)
    assert "error" in first.json()["items"][0]
    assert "results" in second.json()["items"][0]


async def test_many_texts_are_tokenised_in_pieces_and_batched(serve, models, image):
    similarity = FakeSimilarity()
    texts = [f"text number {number}" for number in range(200)]
    async with serve(models(similarity=similarity), max_batch_items=32) as client:
        body = {"items": [item(image(), *texts)]}
        reply = (await client.post("/sentence_reward", json=body)).json()
    assert len(reply["items"][0]["results"]) == 200
    assert max(similarity.batch_sizes) <= 32
    assert sum(similarity.batch_sizes) == 201
