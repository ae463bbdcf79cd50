"""What is computed once: in flight and in the cache."""

import asyncio
import base64
import io
import threading

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_proto import sha256_of
from sightline_service.embedding import Embedding, cosines
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


async def test_small_images_do_not_wait_for_large_ones_that_are_being_decoded(serve, models, image):
    gate, begun = threading.Event(), threading.Event()

    class SlowForLarge(FakeSimilarity):
        def prepare_image(self, image):
            if image.width > 64:
                begun.set()
                assert gate.wait(10)
            return super().prepare_image(image)

    pixels = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    large = io.BytesIO()
    PIL.Image.fromarray(pixels).save(large, "PNG")
    assert len(large.getvalue()) > 64 * 1024
    async with serve(models(similarity=SlowForLarge()), max_wait_ms=30_000) as client:
        body = {"items": [item(large.getvalue(), "A dog.")]}
        late = asyncio.create_task(client.post("/sentence_reward", json=body))
        assert await asyncio.to_thread(begun.wait, 5)
        async with asyncio.timeout(5):
            await client.post("/sentence_reward", json={"items": [item(image(), "A cat.")]})
        assert not late.done()
        gate.set()
        assert (await late).json()["items"][0]["results"]


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


@given(d=st.integers(1, 1100), n=st.integers(1, 140), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_cosine_is_the_same_bits_in_any_company(d, n, seed):
    rng = np.random.default_rng(seed)
    image, *texts = rng.normal(0, 1 / np.sqrt(d), (n + 1, d)).astype(np.float32)
    alone = [float((image.astype(np.float64) * text.astype(np.float64)).sum()) for text in texts]
    together = cosines(image, [Embedding(text, truncated=False) for text in texts])
    assert together == [max(-1.0, min(1.0, product)) for product in alone]
    assert cosines(image, []) == []


class OneBad(FakeSimilarity):
    def embed_texts(self, batch):
        vectors = super().embed_texts(batch)
        vectors[["bad" in str(each.data) for each in batch], 0] = np.nan
        return vectors


async def test_a_text_that_embeds_to_nan_fails_beside_its_finite_neighbours(serve, models, image):
    body = {"items": [item(image(), "A dog.", "A cat."), item(image(), "A bad one.", "A bus.")]}
    async with serve(models(similarity=OneBad())) as client:
        good, bad = (await client.post("/sentence_reward", json=body)).json()["items"]
        again = (await client.post("/sentence_reward", json={"items": body["items"][:1]})).json()
    assert [result["score"] for result in good["results"]] == [
        result["score"] for result in again["items"][0]["results"]
    ]
    assert "error" in bad


async def test_an_embedding_in_the_cache_does_not_keep_its_batch_in_memory(serve, image):
    async with serve() as client:
        body = {"items": [item(image(), "A dog.", "A cat.", "A bus.")]}
        await client.post("/sentence_reward", json=body)
        cache = client.service.engine.embedder.cache
        kept = [cache.get(("text", text)) for text in body["items"][0]["texts"]]
    assert all(embedding.vector.base is None for embedding in kept)
