"""The replies themselves, against the formulas and in any company."""

import asyncio
import base64
import math
import random

import numpy as np
import pytest

from sightline_core.fisao import Profile, span_reward
from sightline_service.models.fake import FakeDetector, FakePerplexity, FakeSimilarity, Trouble
from sightline_service.models.protocols import RawDetection, TextRefusedError, TokenScores

pytestmark = pytest.mark.anyio

PROFILE = Profile(
    name="mine",
    model_id="fake",
    model_revision="fake",
    preprocess="fake",
    scale="cos100",
    mu_gt=10.0,
    mu_hal=-10.0,
    margin=1.0,
    s_min=-80.0,
    s_max=80.0,
    norm="corrected",
    n_gt=2,
    n_hal=2,
    created="2026-01-01T00:00:00Z",
    sightline_version="0.1.0",
)
TEXT = "A dog and two cats beside a hot dog. A bus waits."


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def ask(client, path, item, **options):
    response = await client.post(path, json={"items": [item], **options})
    assert response.status_code == 200, response.text
    return response.json()


async def test_token_rewards_follow_the_profile_and_the_offsets(serve, models, image):
    offsets = [[0, 1], [1, 5], [5, 9], [9, 13], [13, 16], [16, 18], [18, 18]]
    item = {"image": text_of(image()), "texts": [TEXT], "token_offsets": [offsets]}
    async with serve(models(profiles={"mine": PROFILE, "default": PROFILE})) as client:
        reply = await ask(client, "/token_reward", item)
        named = await ask(client, "/token_reward", item, profile="mine")
    assert reply == named
    assert (reply["profile"], reply["scale"]) == ("mine", "cos100")
    [result] = reply["items"][0]["results"]
    spans = result["spans"]
    assert [span["entity"] for span in spans] == ["dog", "cat", "hot dog", "bus"]
    for span in spans:
        assert TEXT[span["start"] : span["end"]] == span["text"]
        assert span["score"] == pytest.approx(100 * span["cosine"])
        assert (span["reward"], span["verdict"]) == span_reward(span["score"], PROFILE)
    expected = [0.0] * len(offsets)
    expected[1] = spans[0]["reward"]  # " dog"
    expected[5] = spans[1]["reward"]  # the last of the two tokens of "cats"
    assert result["token_rewards"] == expected


async def test_without_a_profile_there_are_scores_and_no_rewards(serve, image):
    item = {"image": text_of(image()), "texts": [TEXT]}
    async with serve() as client:
        reply = await ask(client, "/token_reward", item)
    assert reply["profile"] is None
    assert {span["verdict"] for span in reply["items"][0]["results"][0]["spans"]} == {None}
    assert reply["items"][0]["results"][0]["token_rewards"] is None


async def test_sentence_rewards_follow_csr_and_aspo(serve, image):
    item = {
        "image": text_of(image(3)),
        "texts": [TEXT, "A cat.", "A bus."],
        "language_scores": [-0.1, -0.2, -0.3],
    }
    async with serve() as client:
        reply = await ask(client, "/sentence_reward", item, weight=0.75, combine="raw")
    results = reply["items"][0]["results"]
    for score, result in zip(item["language_scores"], results, strict=True):
        assert result["score"] == pytest.approx(max(100 * result["cosine"], 0))
        assert result["calibrated"] == pytest.approx(0.75 * result["score"] + 0.25 * score)
    sentences = results[0]["sentences"]
    assert "".join(sentence["text"] for sentence in sentences) == TEXT
    values = [sentence["cosine"] for sentence in sentences]
    spread = max(values) - min(values)
    assert [sentence["normalized"] for sentence in sentences] == pytest.approx(
        [(value - min(values)) / spread for value in values]
    )
    assert results[1]["sentences"][0]["cosine"] == results[1]["cosine"]


async def test_a_cut_text_is_reported_and_counted(serve, models, image):
    item = {"image": text_of(image()), "texts": ["one two three four", "one"]}
    cutting = models(similarity=FakeSimilarity(context_words=3))
    async with serve(cutting) as client:
        reply = await ask(client, "/sentence_reward", item)
    assert [result["truncated"] for result in reply["items"][0]["results"]] == [True, False]
    assert reply["usage"] == {"images": 1, "texts": 2, "truncated": 1}


class Boxes(FakeDetector):
    """Answers with given detections, whatever is asked."""

    def __init__(self, *found: RawDetection) -> None:
        super().__init__()
        self.found = list(found)

    def detect(self, batch):
        return [self.found for _ in batch]


async def test_boxes_are_thresholded_suppressed_and_cut_best_first(serve, models, image):
    detector = Boxes(
        RawDetection(0, "dog", 0.6, (0.1, 0.1, 0.5, 0.5)),
        RawDetection(1, "cat", 0.9, (0.1, 0.1, 0.5, 0.5)),  # same place, better
        RawDetection(0, "dog", 0.5, (0.5, 0.5, 1.0, 0.75)),
        RawDetection(0, "dog", 0.4, (0.0, 0.8, 0.1, 0.9)),  # beyond max_boxes
        RawDetection(0, "dog", 0.2, (0.0, 0.0, 0.1, 0.1)),  # below the threshold
    )
    item = {"image": text_of(image(size=(24, 16))), "phrases": ["a dog", "a cat"]}
    async with serve(models(detector=detector)) as client:
        reply = await ask(client, "/ground", item, max_boxes=2)
    result = reply["items"][0]["result"]
    assert [(each["phrase"], each["score"]) for each in result["detections"]] == [
        ("a cat", 0.9),
        ("a dog", 0.5),
    ]
    assert result["detections"][1]["box_pixels"] == [12.0, 8.0, 24.0, 12.0]
    assert result["context"] == "a cat [0.10, 0.10, 0.50, 0.50]\na dog [0.50, 0.50, 1.00, 0.75]"
    assert reply["scale"] == "probability"


async def test_a_text_without_objects_grounds_to_nothing(serve, models, image):
    detector = FakeDetector()
    async with serve(models(detector=detector)) as client:
        reply = await ask(client, "/ground", {"image": text_of(image()), "text": "Nothing much."})
    assert reply["items"][0]["result"] == {"detections": [], "context": ""}
    assert detector.batch_sizes == []


async def test_perplexities_are_means_over_tokens_and_sentences(serve, models, image):
    item = {"texts": ["A dog. It sleeps."], "prompt": "Describe."}
    async with serve() as client:
        reply = await ask(client, "/perplexity", item, return_tokens=True)
    [result] = reply["items"][0]["results"]
    log_probs = [token["log_prob"] for token in result["tokens"]]
    assert result["n_tokens"] == len(log_probs) == 4
    assert result["log_prob"] == pytest.approx(sum(log_probs))
    assert result["perplexity"] == pytest.approx(math.exp(-sum(log_probs) / 4))
    first, second = result["sentences"]
    assert first["log_prob"] == pytest.approx(sum(log_probs[:2]))
    assert second["perplexity"] == pytest.approx(math.exp(-sum(log_probs[2:]) / 2))
    better = min((first, second), key=lambda sentence: sentence["perplexity"])
    assert better["normalized"] == 1.0
    assert first["normalized"] + second["normalized"] == 1.0
    assert reply["usage"] == {"images": 0, "texts": 1, "truncated": 0}
    assert reply["scale"] == "nats"


async def test_tokens_are_left_out_unless_asked_for(serve):
    async with serve() as client:
        reply = await ask(client, "/perplexity", {"texts": ["A dog."]})
    assert "tokens" not in reply["items"][0]["results"][0]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"image": "!!!"}, "image_invalid"),
        ({"image": text_of(b"not an image")}, "image_invalid"),
        ({"image": "https://example.org/x.png"}, "image_url_not_allowed"),
        ({"image": "sha256:" + "0" * 64}, "image_not_found"),
        ({"image": text_of(b"%PDF-1.7 nothing to see")}, "image_format_not_supported"),
    ],
)
@pytest.mark.parametrize("path", ["/token_reward", "/ground", "/perplexity", "/sentence_reward"])
async def test_a_bad_image_fails_its_item_and_not_its_neighbours(serve, image, path, bad, code):
    rest = {"text": "A dog."} if path == "/ground" else {"texts": ["A dog."]}
    good = {"image": text_of(image()), **rest}
    async with serve() as client:
        body = {"items": [good, {**rest, **bad, "id": "b"}, good]}
        reply = (await client.post(path, json=body)).json()
        alone = (await client.post(path, json={"items": [good]})).json()
        ready = await client.get("/readyz")
    first, second, third = reply["items"]
    assert (second["index"], second["id"], second["error"]["code"]) == (1, "b", code)
    assert second["error"]["param"] == "items[1].image"
    assert "results" not in second
    assert "result" not in second
    assert {**first, "index": 0} == {**third, "index": 0} == alone["items"][0]
    assert ready.status_code == 200


async def test_an_image_beyond_the_limits_is_too_large(serve, image):
    item = {"image": text_of(image(size=(100, 100))), "texts": ["A dog."]}
    async with serve(max_image_pixels=9_999) as client:
        reply = await ask(client, "/sentence_reward", item)
    assert reply["items"][0]["error"]["code"] == "image_too_large"
    async with serve(max_image_bytes=50) as client:
        reply = await ask(client, "/sentence_reward", item)
    assert reply["items"][0]["error"]["code"] == "image_too_large"


async def test_a_model_that_needs_an_image_says_so(serve, models):
    async with serve(models(perplexity=FakePerplexity(needs_image=True))) as client:
        reply = await ask(client, "/perplexity", {"texts": ["A dog."]})
    assert reply["items"][0]["error"]["code"] == "image_required"


async def test_a_model_that_sees_no_images_refuses_one(serve, models, image):
    async with serve(models(perplexity=FakePerplexity(takes_image=False))) as client:
        item = {"texts": ["A dog."], "image": text_of(image())}
        reply = await ask(client, "/perplexity", item)
    assert reply["items"][0]["error"]["param"] == "items[0].image"


async def test_a_poisonous_text_fails_its_item_alone(serve, models, image):
    broken = models(similarity=FakeSimilarity(Trouble(fail_on="poison")))
    items = [
        {"image": text_of(image(n)), "texts": [text]} for n, text in enumerate(("a", "poison", "b"))
    ]
    async with serve(broken) as client:
        reply = (await client.post("/sentence_reward", json={"items": items})).json()
    assert [item.get("error", {}).get("code") for item in reply["items"]] == [
        None,
        "internal_error",
        None,
    ]
    assert "poison" not in reply["items"][1]["error"]["message"]


class Refusing(FakeSimilarity):
    def prepare_text(self, text):
        if "forbidden" in text:
            raise TextRefusedError("too long for this model: shorten it")
        return super().prepare_text(text)


async def test_a_refused_text_fails_its_item_alone(serve, models, image):
    items = [{"image": text_of(image()), "texts": [text]} for text in ("a forbidden one", "b")]
    async with serve(models(similarity=Refusing())) as client:
        reply = (await client.post("/sentence_reward", json={"items": items})).json()
    assert reply["items"][0]["error"]["code"] == "text_invalid"
    assert "results" in reply["items"][1]


async def test_out_of_memory_is_halved_away(serve, models, image):
    small = models(similarity=FakeSimilarity(Trouble(memory_items=2)))
    items = [{"image": text_of(image(n)), "texts": [f"text {n}"]} for n in range(9)]
    async with serve(small) as client, serve() as plain:
        reply = (await client.post("/sentence_reward", json={"items": items})).json()
        expected = (await plain.post("/sentence_reward", json={"items": items})).json()
    assert reply == expected


async def test_an_item_too_large_for_the_device_fails_alone(serve, models, image):
    none = models(similarity=FakeSimilarity(Trouble(memory_items=0)))
    async with serve(none) as client:
        reply = await ask(
            client, "/sentence_reward", {"image": text_of(image()), "texts": ["A dog."]}
        )
    assert reply["items"][0]["error"]["code"] == "out_of_memory"


class NotANumber(FakeSimilarity):
    def embed_images(self, batch):
        return np.full((len(batch), 16), np.nan, dtype=np.float32)


class NotAProbability(FakePerplexity):
    def score(self, batch):
        return [TokenScores(((0, 1),), np.array([np.nan]))] * len(batch)


async def test_a_score_that_is_not_finite_never_leaves(serve, models, image):
    nan = models(
        similarity=NotANumber(),
        perplexity=NotAProbability(),
        detector=Boxes(RawDetection(0, "dog", float("nan"), (0, 0, 1, 1))),
    )
    data = text_of(image())
    async with serve(nan) as client:
        replies = [
            await ask(client, "/sentence_reward", {"image": data, "texts": ["a"]}),
            await ask(client, "/perplexity", {"texts": ["a"]}),
            await ask(client, "/ground", {"image": data, "phrases": ["dog"]}),
        ]
    for reply in replies:
        error = reply["items"][0]["error"]
        assert error["code"] == "internal_error"
        assert "not finite" in error["message"]


PATHS = ("/token_reward", "/sentence_reward", "/ground", "/perplexity")


def mixed_items(image) -> list[tuple[str, dict]]:
    rng = random.Random(5)
    texts = ["A dog. A cat sits.", "Two buses.", "A zebra, a bear and a hot dog.", "No object."]
    items = []
    for number in range(16):
        size = rng.choice([(24, 16), (16, 24), (40, 40)])
        data = text_of(image(number % 5, size))
        for path in PATHS:
            rest = (
                {"text": rng.choice(texts)}
                if path == "/ground"
                else {"texts": rng.sample(texts, rng.randint(1, 3))}
            )
            items.append((path, {"image": data, "id": f"{number}", **rest}))
    return items


async def test_an_item_scores_the_same_alone_and_in_any_company_and_order(serve, image):
    items = mixed_items(image)
    options = {"/ground": {"box_threshold": 0.05}}
    alone: list[dict] = []
    async with serve(embedding_cache_bytes=0) as client:
        for path, item in items:
            reply = await ask(client, path, item, **options.get(path, {}))
            alone.append({**reply["items"][0], "index": 0})
    order = list(range(len(items)))
    random.Random(7).shuffle(order)
    async with serve(embedding_cache_bytes=0, max_wait_ms=20) as client:

        async def batch(path: str) -> None:
            chosen = [index for index in order if items[index][0] == path]
            body = {"items": [items[index][1] for index in chosen], **options.get(path, {})}
            reply = (await client.post(path, json=body)).json()
            for index, item in zip(chosen, reply["items"], strict=True):
                assert {**item, "index": 0} == alone[index]

        singles = [
            ask(client, items[index][0], items[index][1], **options.get(items[index][0], {}))
            for index in order
        ]
        replies, *_ = await asyncio.gather(asyncio.gather(*singles), *map(batch, PATHS))
    for index, reply in zip(order, replies, strict=True):
        assert reply["items"][0] == alone[index]
