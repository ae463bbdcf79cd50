"""The clients against the real service over a real socket; only its models are fakes."""

import asyncio
import threading
import time
from collections.abc import Iterator
from io import BytesIO

import PIL.Image
import pytest
import uvicorn

from sightline import AsyncRewardClient, RewardClient, errors, to_image
from sightline.fake_scores import FAKE_PROFILE
from sightline_proto import (
    TOKEN_REWARD,
    GroundItem,
    GroundRequest,
    Image,
)
from sightline_service.app import create_app
from sightline_service.models.fake import FakeDetector, FakePerplexity, FakeSimilarity
from sightline_service.served import DEFAULT_PROFILE, Models
from sightline_service.settings import Settings

TEXT = "A dog and a cat. It rains."
KEY = "a-key"


def png(shade: int) -> bytes:
    file = BytesIO()
    PIL.Image.new("RGB", (16 + shade % 7, 16), (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    models = Models(
        similarity=FakeSimilarity(),
        detector=FakeDetector(),
        perplexity=FakePerplexity(),
        profiles={DEFAULT_PROFILE: FAKE_PROFILE},
    )
    app = create_app(Settings(api_keys=(KEY,), max_body_bytes=40_000), models)
    config = uvicorn.Config(app, port=0, log_level="warning", ws="none", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture(params=["json", "protobuf"])
def client(request, url) -> Iterator[RewardClient]:
    with RewardClient(url, api_key=KEY, wire=request.param, timeout_s=20) as made:
        yield made


def test_every_endpoint_answers(client):
    image = PIL.Image.open(BytesIO(png(1)))
    [token] = client.token_reward(image, TEXT, token_offsets=[[(0, 5), (5, 15)]])
    assert [span.text for span in token.spans] == ["dog", "cat"]
    assert token.token_rewards is not None
    assert len(token.token_rewards) == 2
    sentence = client.sentence_reward(png(1), [TEXT, "A dog."], language_scores=[0.0, 1.0])
    assert [len(result.sentences) for result in sentence] == [2, 1]
    assert {result.calibrated for result in sentence} <= {0.0, 0.1, 0.9, 1.0}
    assert client.ground(png(1), ["dog"], box_threshold=0).detections[0].phrase == "dog"
    [surprise] = client.perplexity(TEXT, image=png(1), prompt="Describe.", return_tokens=True)
    assert surprise.tokens is not None
    assert len(surprise.tokens) == surprise.n_tokens == 7


def test_both_wires_give_equal_scores(url, batch):
    replies = []
    for wire in ("json", "protobuf"):
        with RewardClient(url, api_key=KEY, wire=wire) as client:
            replies.append(client.send(batch(png(2), png(3), text=TEXT)))
    assert replies[0] == replies[1]


def test_a_bad_image_fails_its_item_alone(client, batch):
    reply = client.send(batch(png(4), b"no image", png(5), text=TEXT))
    assert [item.error.code if item.error else None for item in reply.items] == [
        None,
        "image_invalid",
        None,
    ]
    with pytest.raises(errors.ItemError) as caught:
        client.token_reward(b"no image", TEXT)
    assert caught.value.code == "image_invalid"


def test_an_image_that_the_service_never_stored_is_uploaded(client):
    fresh = png(100 if client.config.wire == "json" else 101)
    first = client.ground(fresh, "dog", box_threshold=0)
    again = client.ground(fresh, "dog", box_threshold=0)
    other = client.ground(to_image(fresh), "dog", box_threshold=0)
    assert first == again == other
    item = GroundItem(image=Image(fresh), phrases=("dog",))
    reply = client.send(GroundRequest(items=(item,) * 3, box_threshold=0.0))
    assert [each.result for each in reply.items] == [first] * 3
    with pytest.raises(errors.ItemError) as caught:
        client.token_reward(Image("sha256:" + "0" * 64), TEXT)
    assert caught.value.code == "image_not_found"


def test_a_batch_beyond_the_services_body_limit_is_halved(client, batch):
    noise = [PIL.Image.effect_noise((90, 90), 64 + number) for number in range(12)]
    images = [to_image(image) for image in noise]
    assert sum(len(image.decode()) for image in images) > 80_000
    reply = client.send(batch(*images, text=TEXT))
    assert [(item.index, item.id, item.error) for item in reply.items] == [
        (number, str(number), None) for number in range(12)
    ]


def test_a_wrong_key_and_an_unknown_profile_are_told_apart(url, client):
    with RewardClient(url, api_key="wrong") as stranger:
        with pytest.raises(errors.AuthenticationError):
            stranger.token_reward(png(1), TEXT)
        assert stranger.ready()
    with pytest.raises(errors.InvalidRequestError) as caught:
        client.token_reward(png(1), TEXT, profile="gone")
    assert (caught.value.code, caught.value.attempts) == ("profile_not_found", 1)
    assert caught.value.request_id is not None


def test_info_says_what_is_served(client):
    info = client.info()
    assert {served.role for served in info.models} == {"similarity", "detector", "perplexity"}
    assert info.limits.body_bytes == 40_000
    assert client.ready()


def test_many_calls_at_once_from_an_event_loop(url, batch):
    async def run() -> list[float]:
        async with AsyncRewardClient(url, api_key=KEY, max_concurrency=16) as client:
            calls = [client.token_reward(png(number % 50), TEXT) for number in range(100)]
            answers = await asyncio.gather(*calls)
            replies = [
                reply
                async for reply in client.send_many(
                    TOKEN_REWARD, (batch(png(number % 50), text=TEXT) for number in range(100))
                )
            ]
        many = [reply.items[0].results[0].spans[0].cosine for reply in replies]
        assert many == [results[0].spans[0].cosine for results in answers]
        return many

    scores = asyncio.run(run())
    assert scores[:50] == scores[50:]
    assert len(set(scores)) == 50
