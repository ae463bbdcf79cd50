"""Rewards from the shipped fake service: where they land, and what happens when it is away."""

import json
import re
import time
from dataclasses import replace

import httpx
import pytest

from sightline import Image, RewardClient
from sightline.fake_scores import FAKE_PROFILE
from sightline.testing import FakeService
from sightline_core.fisao import span_reward
from sightline_proto import ErrorCode
from sightline_trainers import rewards
from sightline_trainers.offsets import decode_with_offsets
from sightline_trainers.rewards import (
    Response,
    RewardConfig,
    RewardOutageError,
    RewardRefusedError,
    RewardSource,
)

JSON = "application/json"
COSINES = {"cat": 0.30, "dog": 0.08, "hot dog": 0.28}


def response(tokenizer, text, image=b"any bytes"):
    ids = tokenizer.encode(text, add_special_tokens=False)
    decoded, offsets = decode_with_offsets(
        lambda some: tokenizer.decode(some, clean_up_tokenization_spaces=False), ids
    )
    assert decoded == text
    return Response("prompts.jsonl:7", Image(image), text, offsets)


@pytest.fixture
def fake():
    return FakeService(cosine=lambda image, text: COSINES.get(text, 0.2))


@pytest.fixture
def source(fake):
    opened = []

    def make(said=None, **fields):
        client = RewardClient("http://fake", transport=fake, retries=0)
        say = (lambda _: None) if said is None else said.append
        opened.append(RewardSource(RewardConfig(**fields), client=client, say=say))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def short_pauses(monkeypatch):
    monkeypatch.setattr(rewards, "_FIRST_DELAY_S", 0.01)


def test_a_words_last_token_earns_its_reward_also_behind_an_emoji(tokenizer, source):
    asked = response(tokenizer, "\U0001f600\U0001f600 A cat and a dog.")
    asking = source()
    (grades,) = asking.wait(asking.ask_tokens([asked]))
    earned = {index: value for index, value in enumerate(grades.values) if value}
    words = [asked.text[slice(*asked.token_offsets[index])] for index in earned]
    assert [word.strip()[-1] for word in words] == ["t", "g"]
    wanted = [span_reward(100 * COSINES[name], FAKE_PROFILE)[0] for name in ("cat", "dog")]
    assert list(earned.values()) == pytest.approx(wanted)
    assert [index for index, graded in enumerate(grades.graded) if graded] == list(earned)


def test_alignment_on_this_side_equals_the_services(tokenizer, source, tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(replace(FAKE_PROFILE, model_revision="0").to_json())
    asked = [response(tokenizer, text) for text in ("A cat \U0001f600 dogs.", "A hot dog.")]
    theirs, ours = source(), source(profile_file=path)
    assert theirs.wait(theirs.ask_tokens(asked)) == ours.wait(ours.ask_tokens(asked))


def test_another_margin_moves_the_threshold(tokenizer, source, tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(FAKE_PROFILE.to_json())
    asked = [response(tokenizer, "A cat and a dog.")]
    wide = source(profile_file=path, margin=9.0)  # the cat, 8 above mu_gt, is inside it now
    (grades,) = wide.wait(wide.ask_tokens(asked))
    assert [value > 0 for value in grades.values].count(True) == 0
    assert [value < 0 for value in grades.values].count(True) == 1


def test_a_profile_of_another_model_is_refused(tokenizer, source, tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(replace(FAKE_PROFILE, model_revision="abc").to_json())
    asking = source(profile_file=path)
    with pytest.raises(RewardRefusedError, match="calibrate again"):
        asking.wait(asking.ask_tokens([response(tokenizer, "A cat.")]))


class Detecting(FakeService):
    """Words scored by a detector: their scores come without cosines."""

    def handle_request(self, request):
        request.headers["Accept"] = JSON
        reply = super().handle_request(request)
        body = re.sub(rb'"cosine":[-.e0-9]+', b'"cosine":null', reply.read())
        return httpx.Response(reply.status_code, content=body, headers={"content-type": JSON})


def test_a_profile_has_no_thresholds_for_words_that_a_detector_scored(tokenizer, tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(replace(FAKE_PROFILE, model_revision="0").to_json())
    client = RewardClient("http://fake", transport=Detecting(), retries=0)
    with (
        RewardSource(RewardConfig(profile_file=path), client=client) as asking,
        pytest.raises(RewardRefusedError, match="--token-scorer similarity"),
    ):
        asking.wait(asking.ask_tokens([response(tokenizer, "A cat.")]))


def test_only_the_named_entities_are_rewarded(tokenizer, source):
    asking = source(entities=("dog",))
    (grades,) = asking.wait(asking.ask_tokens([response(tokenizer, "A cat and a dog.")]))
    assert sum(grades.graded) == 1
    assert min(grades.values) < 0 == max(grades.values)


def test_a_repeated_object_may_earn_its_first_mention_alone(tokenizer, source):
    asked = response(tokenizer, "A cat. A dog and a cat. Two cats.")
    asking = source(mentions="first")
    (grades,) = asking.wait(asking.ask_tokens([asked]))
    places = [index for index, value in enumerate(grades.values) if value]
    ends = [asked.token_offsets[index][1] for index in places]
    assert ends == [len("A cat"), len("A cat. A dog")]
    assert sum(grades.graded) == 2


def test_each_sentences_score_stands_on_its_last_token(tokenizer, source):
    asked = response(tokenizer, "A cat. A dog.")
    asking = source()
    (grades,) = asking.wait(asking.ask_sentences([asked]))
    places = [index for index, graded in enumerate(grades.graded) if graded]
    assert [asked.text[slice(*asked.token_offsets[index])][0] for index in places] == [".", "."]
    assert [grades.values[index] for index in places] == [20.0, 20.0]


def test_a_responses_score_stands_on_its_last_token(tokenizer, source, fake):
    asked = response(tokenizer, "A cat. A dog. ")
    asking = source()
    (grades,) = asking.wait(asking.ask_responses([asked]))
    (place,) = (index for index, graded in enumerate(grades.graded) if graded)
    assert asked.text[: asked.token_offsets[place][1]] == "A cat. A dog."
    assert [value for value in grades.values if value] == [20.0]


def test_an_empty_response_is_not_sent_and_has_no_grade(tokenizer, source, fake):
    empty = Response("row", Image(b"x"), " ", ((0, 1), (1, 1)))
    asking = source()
    assert asking.wait(asking.ask_tokens([empty]))[0].graded == (False, False)
    assert not fake.requests
    both = asking.wait(asking.ask_tokens([empty, response(tokenizer, "A cat.")]))
    assert both[0].values == (0.0, 0.0)
    assert any(both[1].values)


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("failure", [503, httpx.ConnectError("refused"), 429])
def test_an_outage_that_ends_is_waited_out_and_said(tokenizer, source, fake, failure):
    said = []
    asking = source(said)
    fake.fail_next(failure, times=3)
    (grades,) = asking.wait(asking.ask_tokens([response(tokenizer, "A cat.")]))
    assert any(grades.values)
    assert len(said) == 4
    assert "does not answer" in said[0]
    assert "is back" in said[-1]
    assert asking.waited_s > 0


@pytest.mark.usefixtures("short_pauses")
def test_an_outage_that_lasts_ends_in_an_error_that_says_how_to_go_on(tokenizer, source, fake):
    asking = source(patience_s=0.1)
    fake.fail_next(503, times=100)
    started = time.monotonic()
    with pytest.raises(RewardOutageError, match="--resume"):
        asking.wait(asking.ask_tokens([response(tokenizer, "A cat.")]))
    assert time.monotonic() - started < 10


def test_a_service_without_the_model_is_not_waited_for(tokenizer, source, fake):
    asking = source()
    fake.fail_next(503, ErrorCode.MODEL_NOT_SERVED)
    with pytest.raises(RewardRefusedError):
        asking.wait(asking.ask_tokens([response(tokenizer, "A cat.")]))


def test_an_image_that_cannot_be_scored_is_named_with_its_row(tokenizer, source):
    asked = [response(tokenizer, "A cat."), response(tokenizer, "A dog.", image=b"broken")]
    asking = source()
    with pytest.raises(RewardRefusedError, match=r"prompts\.jsonl:7"):
        asking.wait(asking.ask_tokens(asked))


def test_closing_ends_a_wait(tokenizer, fake):
    fake.fail_next(503, times=100)
    client = RewardClient("http://fake", transport=fake, retries=0)
    asking = RewardSource(RewardConfig(), client=client)
    answer = asking.ask_tokens([response(tokenizer, "A cat.")])
    started = time.monotonic()
    asking.close()
    assert time.monotonic() - started < 5
    assert answer.cancelled() or isinstance(answer.exception(), RewardOutageError)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"margin": 2.0}, "profile_file"),
        ({"profile": "a", "profile_file": "b"}, "choose one"),
        ({"patience_s": -1}, "patience_s is -1"),
    ],
)
def test_impossible_settings_are_refused_by_name(fields, said):
    with pytest.raises(ValueError, match=said):
        RewardConfig(**fields)


def test_the_profile_file_may_be_edited_by_hand_with_its_digest_removed(tmp_path):
    content = json.loads(FAKE_PROFILE.to_json())
    del content["digest"]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(content))
    assert RewardConfig(profile_file=path, margin=3.0).read_profile().margin == 3.0
