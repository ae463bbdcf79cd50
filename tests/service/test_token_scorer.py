"""FiSAO's words, scored by a detector instead of a cosine."""

import base64

import pytest

from sightline_core.fisao import Profile, calibrate, span_reward, to_scale
from sightline_proto import ModelInfo, TokenRewardReply, from_protobuf, to_protobuf
from sightline_service.loading import ModelLoader
from sightline_service.models.fake import FakeDetector, FakeSimilarity
from sightline_service.models.protocols import RawDetection
from sightline_service.profiles import ProfileError, ProfileFiles
from sightline_service.settings import Settings

pytestmark = pytest.mark.anyio

DINO = ModelInfo(id="hf:dino", revision="r1", preprocess="p1", dtype="float32")
TEXT = "A dog and two dogs beside a hot dog. A bus waits."
WORDS = ["dog", "dogs", "hot dog", "bus"]
BOX = (0.1, 0.1, 0.5, 0.5)
PROFILE = calibrate(
    [60.0, 80.0],
    [10.0, 20.0],
    scale="conf100",
    name="dino",
    model_id="hf:dino",
    model_revision="r1",
    preprocess="p1",
)


class Jealous(FakeDetector):
    """Scores as Grounding DINO does: a phrase's score falls where others stand in its prompt."""

    CONFIDENCE = {"dog": 0.9, "dogs": 0.75, "hot dog": 0.15}

    def __init__(self) -> None:
        super().__init__(info=DINO)
        self.asked: list[tuple[str, ...]] = []

    def prepare(self, image, phrases, *, text_threshold):
        self.asked.append(phrases)
        return super().prepare(image, phrases, text_threshold=text_threshold)

    def detect(self, batch):
        return [self.found([phrase for _, phrase in prepared.data[1]]) for prepared in batch]

    def found(self, phrases):
        best = [self.CONFIDENCE[each] / len(phrases) for each in phrases if each in self.CONFIDENCE]
        return [RawDetection(0, "", score / part, BOX) for score in best for part in (2, 1)]


def item_of(data, *texts, **more):
    return {"image": base64.b64encode(data).decode(), "texts": texts, **more}


async def ask(client, item, **options):
    response = await client.post("/token_reward", json={"items": [item], **options})
    assert response.status_code == 200, response.text
    return response.json()


async def test_words_are_scored_by_their_best_box_each_asked_for_alone(serve, models, image):
    detector = Jealous()
    served = models(detector=detector, token_scorer="detector", similarity=None)
    async with serve(served) as client:
        reply = await ask(client, item_of(image(), TEXT, "A dog."))
    spans = reply["items"][0]["results"][0]["spans"]
    assert [span["text"] for span in spans] == WORDS
    assert [span["score"] for span in spans] == pytest.approx([90.0, 75.0, 15.0, 0.0])
    assert {span["cosine"] for span in spans} == {None}
    assert {span["reward"] for span in spans} == {None}
    assert detector.asked == [(word,) for word in WORDS]
    assert reply["model"] == DINO.model_dump()
    assert reply["scale"] == "conf100"
    message = TokenRewardReply.model_validate(reply)
    assert from_protobuf(TokenRewardReply, to_protobuf(message)) == message


async def test_confidences_become_rewards_by_a_profile_on_their_scale(serve, models, image):
    served = models(
        detector=Jealous(), token_scorer="detector", profiles={"default": PROFILE, "dino": PROFILE}
    )
    offsets = [[[0, 5], [5, len(TEXT)]]]
    async with serve(served) as client:
        reply = await ask(client, item_of(image(), TEXT, token_offsets=offsets))
    assert reply["profile"] == "dino"
    [result] = reply["items"][0]["results"]
    rewards = [span["reward"] for span in result["spans"]]
    assert rewards == [span_reward(score, PROFILE)[0] for score in (90.0, 75.0, 15.0, 0.0)]
    # mu_gt 70, mu_hal 15, the paper's margin 10: above 80 to s_max 80 nobody, below 5 to s_min 10.
    assert (PROFILE.upper, PROFILE.lower) == (80.0, 5.0)
    assert result["token_rewards"][0] == rewards[0]


async def test_both_kinds_of_endpoint_share_one_detector(serve, models, image):
    served = models(detector=Jealous(), token_scorer="detector")
    async with serve(served) as client:
        info = (await client.get("/v1/info")).json()
        listed = (await client.get("/v1/models")).json()["data"]
        ground = await client.post(
            "/ground", json={"items": [{"image": item_of(image())["image"], "phrases": ["dog"]}]}
        )
    endpoints = {each["role"]: each["endpoints"] for each in info["models"]}
    assert endpoints["similarity"] == ["sentence_reward"]
    assert endpoints["detector"] == ["token_reward", "ground"]
    assert {each["role"]: each["endpoints"] for each in listed} == endpoints
    assert ground.json()["items"][0]["result"]["detections"][0]["score"] == 0.9


async def test_without_a_detector_it_is_the_detector_that_is_missing(serve, models, image):
    async with serve(models(detector=None, token_scorer="detector")) as client:
        reply = await client.post("/token_reward", json={"items": [item_of(image(), TEXT)]})
    assert reply.status_code == 503
    assert "detector" in reply.json()["error"]["message"]


class NotFinite(Jealous):
    def found(self, phrases):
        return [RawDetection(0, "", float("nan"), BOX)]


@pytest.mark.parametrize(
    ("detector", "data", "code"),
    [(Jealous(), b"no image", "image_invalid"), (NotFinite(), None, "internal_error")],
)
async def test_a_fault_stays_with_its_item(serve, models, image, detector, data, code):
    async with serve(models(detector=detector, token_scorer="detector")) as client:
        reply = await ask(client, item_of(data or image(), TEXT))
    assert reply["items"][0]["error"]["code"] == code


async def test_an_item_scores_the_same_alone_and_beside_others(serve, models, image):
    items = [item_of(image(n % 3), text) for n, text in enumerate((TEXT, "A bus.", "No object."))]
    async with serve(models(detector=FakeDetector(), token_scorer="detector")) as client:
        together = (await client.post("/token_reward", json={"items": items})).json()["items"]
        for item, found in zip(items, together, strict=True):
            alone = await ask(client, item)
            assert alone["items"][0]["results"] == found["results"]


def loader(**settings):
    fakes = {"similarity": "fake", "detector": "fake", "perplexity": "none"}
    return ModelLoader(Settings(token_scorer="detector", **{**fakes, **settings}))


def fitting_the_fake(**changes) -> Profile:
    numbers = {"scale": "conf100", "model_revision": "fake", "preprocess": "fake"}
    return calibrate([60.0, 80.0], [10.0, 20.0], name="dino", **{**numbers, **changes})


def test_the_profile_of_the_detector_is_held_against_the_detector(tmp_path):
    path = tmp_path / "dino.json"
    path.write_text(fitting_the_fake().to_json())
    models = loader(profile=str(path))(lambda role, state: None)
    assert models.profiles["default"].scale == "conf100"
    assert models.token_scorer == "detector"


@pytest.mark.parametrize(("scale", "scorer"), [("cos100", "detector"), ("conf100", "similarity")])
def test_a_profile_on_the_other_scale_is_refused(scale, scorer):
    files = ProfileFiles(fitting_the_fake(scale=scale), ())
    with pytest.raises(ProfileError, match=f"on scale '{scale}', and the token scorer is"):
        files.matching(FakeSimilarity().info, scorer)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"detector": "none"}, "token_scorer is detector while detector is none"),
        ({"detector": "none", "profile": "x.json"}, "profile is 'x.json' while detector is none"),
    ],
)
def test_a_scorer_that_is_not_served_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Settings(token_scorer="detector", **settings)


def test_the_worlds_profile_is_of_its_verifier_and_not_of_its_detector():
    assert loader(similarity="world", perplexity="none").settings.profile == "auto"
    assert loader(similarity="world")._profiles.default is None


def test_a_confidence_is_no_cosine():
    with pytest.raises(ValueError, match="no cosine"):
        to_scale(0.3, "conf100")
