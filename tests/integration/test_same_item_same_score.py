"""The promise of reproducibility, with the embedded models: an item's neighbours change nothing."""

import asyncio
import base64
import math
import random
from collections.abc import Callable
from typing import Any

import httpx
import PIL.Image
import pytest

from sightline_proto import ENDPOINTS, Endpoint
from sightline_proto.wire import CONTENT_TYPE_PROTOBUF, from_protobuf, to_protobuf
from sightline_world import captions
from sightline_world.scenes import scenes
from sightline_world.splits import stream

pytestmark = pytest.mark.anyio

N = 64
SCORE = 1e-3  # on the scale 100 * cosine
BOX = 1e-3  # fractions of the image
LOG_PROB = 1e-4  # nats per token
SIZES = ((192, 192), (64, 200), (300, 90), (96, 96), (31, 33), (500, 400))
TOLERANCES = {
    "cosine": SCORE / 100,
    "score": SCORE,
    "calibrated": SCORE,
    "reward": SCORE,
    "token_rewards": SCORE,
    "normalized": SCORE,
    "box": BOX,
    "box_pixels": BOX * max(max(SIZES)),
    "log_prob": LOG_PROB,
    "perplexity": None,  # follows from log_prob and n_tokens
    "context": None,  # the boxes again, rounded
}


@pytest.fixture(scope="module")
def items(png: Callable[[PIL.Image.Image], bytes]) -> list[dict[str, Any]]:
    """Images of mixed shapes, with one to four texts of two words to many sentences."""
    made = []
    for scene in scenes("validation", N):
        rng = stream("validation", scene.index, purpose="caption")
        texts = [
            captions.faithful(scene.layout, rng),
            "a dog",
            "The city's cafe \u2615\ufe0f serves cre\u0300me br\u00fbl\u00e9e to 3.5 people. " * 4,
            captions.swap(scene.layout, rng).hallucinated,
        ]
        picture = scene.image.resize(SIZES[scene.index % len(SIZES)])
        made.append(
            {
                "id": f"item-{scene.index}",
                "image": base64.b64encode(png(picture)).decode(),
                "texts": texts[: 1 + scene.index % 4],
            }
        )
    return made


def body(endpoint: Endpoint, items: list[dict[str, Any]]) -> dict[str, Any]:
    if endpoint.name == "ground":
        wanted = ("dog", "traffic light", "a red umbrella", "kite")
        return {
            "items": [
                {"id": each["id"], "image": each["image"], "text": each["texts"][-1]}
                if index % 2
                else {
                    "id": each["id"],
                    "image": each["image"],
                    "phrases": wanted[: 1 + index % 3],
                }
                for index, each in ((int(each["id"][5:]), each) for each in items)
            ],
            "box_threshold": 0.1,
        }
    if endpoint.name == "perplexity":
        prompted = [{**each, "prompt": "Describe the image."} for each in items]
        return {"items": prompted, "return_tokens": True}
    if endpoint.name == "sentence_reward":
        scored = [
            {**each, "language_scores": [-float(n) for n, _ in enumerate(each["texts"])]}
            for each in items
        ]
        return {"items": scored, "combine": "raw"}
    offsets = [[[[n, n + 1] for n in range(len(text))] for text in each["texts"]] for each in items]
    return {
        "items": [
            {**each, "token_offsets": of_item} for each, of_item in zip(items, offsets, strict=True)
        ]
    }


async def ask(http: httpx.AsyncClient, endpoint: Endpoint, content: dict[str, Any]) -> list[Any]:
    reply = await http.post(endpoint.path, json=content)
    assert reply.status_code == 200, reply.text
    return reply.json()["items"]


async def ask_protobuf(
    http: httpx.AsyncClient, endpoint: Endpoint, content: dict[str, Any]
) -> list[Any]:
    message = endpoint.request.model_validate(content)
    headers = {"content-type": CONTENT_TYPE_PROTOBUF, "accept": CONTENT_TYPE_PROTOBUF}
    reply = await http.post(endpoint.path, content=to_protobuf(message), headers=headers)
    assert reply.status_code == 200, reply.content
    assert reply.headers["content-type"] == CONTENT_TYPE_PROTOBUF
    return from_protobuf(endpoint.reply, reply.content).model_dump(mode="json")["items"]


def assert_same(left: Any, right: Any, key: str = "") -> None:
    """Equal in shape and in everything but numbers, and those within their tolerance."""
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for name in left:
            assert_same(left[name], right[name], name)
    elif isinstance(left, list):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other, key)
    elif isinstance(left, float) and isinstance(right, float):
        tolerance = TOLERANCES[key]
        assert math.isfinite(left)
        assert tolerance is None or abs(left - right) <= tolerance, (key, left, right)
    elif key not in ("index", "context"):
        assert left == right


def per_token(value: Any) -> Any:
    """A copy in which the summed `log_prob` of a text or sentence is its mean over tokens."""
    if isinstance(value, list):
        return [per_token(each) for each in value]
    if not isinstance(value, dict):
        return value
    copy = {name: per_token(each) for name, each in value.items()}
    if "n_tokens" in copy:
        copy["log_prob"] /= max(copy["n_tokens"], 1)
    return copy


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
async def test_an_item_scores_the_same_alone_and_in_a_batch_in_any_order_and_encoding(
    serve, items, endpoint
):
    shuffled = random.Random(7).sample(items, len(items))
    async with serve() as http:
        alone = [
            reply for each in items for reply in await ask(http, endpoint, body(endpoint, [each]))
        ]
        together = await ask(http, endpoint, body(endpoint, items))
        reordered = await ask(http, endpoint, body(endpoint, shuffled))
        binary = await ask_protobuf(http, endpoint, body(endpoint, items))
    assert [each["id"] for each in together] == [each["id"] for each in items]
    assert [each["index"] for each in reordered] == list(range(N))
    by_id = {each["id"]: each for each in reordered}
    assert not [each for each in together if "error" in each]
    for replies in (together, [by_id[each["id"]] for each in items], binary):
        assert_same(per_token(alone), per_token(replies))


async def test_a_form_scores_like_the_same_item_in_json(serve, items):
    async with serve() as http:
        for each in items[:4]:
            image = base64.b64decode(each["image"])
            form = await http.post(
                "/sentence_reward", files={"image": image}, data={"text": each["texts"]}
            )
            content = {"items": [{"image": each["image"], "texts": each["texts"]}]}
            assert_same(form.json()["items"], await ask(http, ENDPOINTS[1], content))


async def test_concurrent_requests_score_like_one_batch(serve, items):
    endpoint = ENDPOINTS[0]
    async with serve() as http:
        together = await ask(http, endpoint, body(endpoint, items))
        singles = await asyncio.gather(
            *(ask(http, endpoint, body(endpoint, [each])) for each in items)
        )
    assert_same(together, [reply for [reply] in singles])
