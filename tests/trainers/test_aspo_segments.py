"""How answers are cut, and what the service says of the pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline import Image, RewardClient
from sightline.testing import FakeService
from sightline_core.sentences import split_sentences
from sightline_proto import ErrorCode
from sightline_trainers import rewards
from sightline_trainers.offsets import decode_with_offsets
from sightline_trainers.rewards import RewardConfig, RewardRefusedError
from sightline_trainers.segment_scores import Question, SegmentScores, SegmentSource
from sightline_trainers.segments import cut_answer

TEXT = (
    "A cat is on the table. There is a red cup, and Mr. Day has a dog!\nTwo birds \U0001f600 fly."
)


def sampled(tokenizer, text, *, ended=True):
    """Ids as a policy would write them, and the characters of each."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    ids += [tokenizer.eos_token_id] if ended else []

    def decode(some):
        return tokenizer.decode(some, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    decoded, offsets = decode_with_offsets(decode, ids)
    assert decoded == text
    return ids, offsets, decode


def test_every_token_belongs_to_one_sentence_and_the_end_token_to_the_last(tokenizer):
    ids, offsets, decode = sampled(tokenizer, TEXT)
    cut = cut_answer(TEXT, offsets, "sentence")
    assert cut.texts == tuple(each.text.strip() for each in split_sentences(TEXT))
    assert len(cut.of_token) == len(ids)
    assert cut.of_token[-1] == 2
    for number, text in enumerate(cut.texts):
        own = [one for one, owner in zip(ids, cut.of_token, strict=True) if owner == number]
        assert decode(own).strip() == text


def test_a_response_is_one_segment(tokenizer):
    ids, offsets, _ = sampled(tokenizer, TEXT)
    cut = cut_answer(TEXT, offsets, "response")
    assert cut.texts == (TEXT,)
    assert cut.of_token == (0,) * len(ids)


def test_at_token_level_each_token_is_scored_by_its_word(tokenizer):
    ids, offsets, _ = sampled(tokenizer, "An umbrella, unseen.")
    cut = cut_answer("An umbrella, unseen.", offsets, "token")
    assert cut.of_token == tuple(range(len(ids)))
    assert len(cut.texts) > len(set(cut.texts))  # the words are of several tokens
    assert tuple(dict.fromkeys(cut.texts)) == ("An", "umbrella,", "unseen.")
    assert cut.texts[-1] == "unseen."  # the end token's


@given(
    text=st.text("aB .!?\n\U0001f600\u00e9\u3002", min_size=1, max_size=60).filter(str.strip),
    level=st.sampled_from(["response", "sentence", "token"]),
)
def test_segments_partition_the_tokens_of_any_text(tokenizer, text, level):
    ids, offsets, _ = sampled(tokenizer, text)
    cut = cut_answer(text, offsets, level)
    assert len(cut.of_token) == len(ids)
    assert sorted(set(cut.of_token)) == list(range(len(cut.pieces)))
    assert list(cut.of_token) == sorted(cut.of_token)
    assert all(cut.texts)


@pytest.fixture
def fake():
    return FakeService(cosine=lambda image, text: 0.01 * len(text))


@pytest.fixture
def source(fake):
    client = RewardClient("http://fake", transport=fake, retries=0)
    with SegmentSource(RewardConfig(), client=client) as opened:
        yield opened


def question(tokenizer, text, level="sentence", *, image=b"any bytes"):
    _, offsets, _ = sampled(tokenizer, text)
    cut = cut_answer(text, offsets, level)
    return Question("data.jsonl:7", Image(image), "Describe the image.", text, cut)


def test_each_sentence_gets_its_own_similarity_and_perplexity(tokenizer, source):
    asked = [question(tokenizer, "A cat. A brown dog."), question(tokenizer, "Nothing.")]
    first, second = source.wait(source.ask_segments(asked, cosines=True, perplexities=True))
    assert first.cosines == pytest.approx((0.06, 0.12))
    # a token of the fake is a word and its space, with log-probability -10 * 0.01 * its characters
    assert first.perplexities == pytest.approx((2.71828 ** (0.7 / 2), 2.71828 ** (1.2 / 3)), 1e-4)
    assert second.cosines == pytest.approx((0.08,))


def test_words_that_come_twice_are_asked_about_once(tokenizer, source, fake):
    asked = question(tokenizer, "a dog and a dog and a dog", "token")
    (scores,) = source.wait(source.ask_segments([asked], cosines=True, perplexities=False))
    by_word = dict(zip(asked.segments.texts, scores.cosines, strict=True))
    assert by_word == pytest.approx({"a": 0.01, "dog": 0.03, "and": 0.03})
    assert scores.perplexities == ()
    assert [request.url.path for request in fake.requests if request.method == "POST"] == [
        "/v1/sentence_reward"
    ]


def test_an_answer_of_more_words_than_one_item_holds_is_scored(tokenizer, source):
    text = " ".join(f"{number}x" for number in range(300))
    asked = question(tokenizer, text, "token")
    (scores,) = source.wait(source.ask_segments([asked], cosines=True, perplexities=False))
    assert scores.cosines == pytest.approx([0.01 * len(word) for word in asked.segments.texts])


def test_without_a_metric_the_service_is_left_alone(tokenizer, source, fake):
    asked = [question(tokenizer, "A cat.")]
    none = source.wait(source.ask_segments(asked, cosines=False, perplexities=False))
    assert none == [SegmentScores()]
    assert not fake.requests


def test_an_image_that_cannot_be_scored_is_an_error_and_never_a_zero(tokenizer, source):
    asked = [question(tokenizer, "A cat."), question(tokenizer, "A dog.", image=b"broken")]
    with pytest.raises(RewardRefusedError, match="data.jsonl:7: .*no image"):
        source.wait(source.ask_segments(asked, cosines=True, perplexities=False))


def test_a_service_that_is_busy_is_asked_again(tokenizer, source, fake, monkeypatch):
    monkeypatch.setattr(rewards, "_FIRST_DELAY_S", 0.01)
    fake.fail_next(503, ErrorCode.NOT_READY, times=2)
    asked = [question(tokenizer, "A cat.")]
    (scores,) = source.wait(source.ask_segments(asked, cosines=True, perplexities=False))
    assert scores.cosines == pytest.approx((0.06,))
