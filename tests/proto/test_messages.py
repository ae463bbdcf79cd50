"""What messages accept: exact names, strict types, finite numbers, limits; and how they refuse."""

import json

import pytest
from pydantic import ValidationError

from sightline_proto import (
    ENDPOINTS,
    ErrorDetail,
    GroundItem,
    GroundItemReply,
    GroundRequest,
    GroundResult,
    Image,
    PerplexityItemReply,
    PerplexityRequest,
    PerplexityResult,
    SentenceRewardItem,
    SentenceRewardRequest,
    TokenRewardItem,
    TokenRewardRequest,
    TokenRewardResult,
    Usage,
    limits,
    validation_detail,
)
from sightline_proto.descriptors import FIELDS
from sightline_proto.message import Message, Number


class Reading(Message):
    """Numbers to try the common rules on."""

    value: Number
    pair: tuple[Number, Number] | None = None


def refusal(cls, body):
    """The error that a sender of `body` (JSON text, or fields) reads."""
    with pytest.raises(ValidationError) as caught:
        cls.model_validate_json(body) if isinstance(body, str) else cls.model_validate(body)
    return validation_detail(caught.value)


def names(cls):
    return set(cls.model_fields)


def test_field_names_are_those_of_the_contract():
    found = {cls.__name__: names(cls) for cls in FIELDS}
    contract = {
        "TokenRewardRequest": {"items", "profile"},
        "TokenRewardItem": {"id", "image", "texts", "token_offsets"},
        "TokenRewardResult": {"spans", "token_rewards", "truncated"},
        "SpanReward": {"text", "entity", "start", "end", "cosine", "score", "reward", "verdict"},
        "SentenceRewardRequest": {"items", "weight", "combine"},
        "SentenceRewardItem": {"id", "image", "texts", "language_scores"},
        "SentenceRewardResult": {"cosine", "score", "calibrated", "sentences", "truncated"},
        "SentenceScore": {"text", "start", "end", "cosine", "score", "normalized"},
        "GroundRequest": {"items", "box_threshold", "text_threshold", "nms_iou", "max_boxes"},
        "GroundItem": {"id", "image", "phrases", "text"},
        "GroundResult": {"detections", "context"},
        "Detection": {"phrase", "label", "score", "box", "box_pixels"},
        "PerplexityRequest": {"items", "return_tokens"},
        "PerplexityItem": {"id", "image", "prompt", "texts"},
        "PerplexityResult": {"log_prob", "n_tokens", "perplexity", "sentences", "tokens"},
        "SentencePerplexity": {
            *("text", "start", "end", "log_prob", "n_tokens", "perplexity", "normalized")
        },
        "ModelInfo": {"id", "revision", "preprocess", "dtype"},
        "ErrorDetail": {"message", "type", "param", "code"},
    }
    assert {name: found[name] for name in contract} == contract
    for endpoint in ENDPOINTS:
        assert names(endpoint.reply) == {"model", "scale", "profile", "items", "usage"}
        answer = "result" if endpoint.name == "ground" else "results"
        assert found[f"{endpoint.reply.__name__[:-5]}ItemReply"] == {"index", "id", answer, "error"}


def test_defaults_are_those_of_the_contract():
    item = {"image": "YQ==", "texts": ["a"]}
    assert SentenceRewardRequest(items=[item]).model_dump(exclude={"items"}) == {
        "weight": 0.9,
        "combine": "rank",
    }
    ground = GroundRequest(items=[{"image": "YQ==", "text": "a"}])
    assert ground.model_dump(exclude={"items"}) == {
        "box_threshold": 0.35,
        "text_threshold": 0.25,
        "nms_iou": 0.7,
        "max_boxes": 20,
    }
    assert TokenRewardRequest(items=[item]).profile is None
    assert PerplexityRequest(items=[{"texts": ["a"]}]).return_tokens is False


@pytest.mark.parametrize("cls", FIELDS, ids=lambda cls: cls.__name__)
def test_messages_are_closed_and_frozen_and_their_json_schema_says_so(cls):
    with pytest.raises(ValidationError) as caught:
        cls.model_validate_json('{"nonsense": 1}')
    assert ("nonsense",) in [e["loc"] for e in caught.value.errors() if "extra" in e["type"]]
    assert cls.model_config["frozen"] is True
    for mode in ("validation", "serialization"):
        schema = cls.model_json_schema(mode=mode)
        assert schema["additionalProperties"] is False
        assert set(schema["properties"]) == names(cls)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"value": NaN}', "value: Input should be a finite number, got nan"),
        ('{"value": -Infinity}', "value: Input should be a finite number, got -inf"),
        ('{"value": 1e999}', "value: Input should be a finite number, got inf"),
        ('{"value": 1' + "0" * 400 + "}", "value: Input should be a finite number, got a whole"),
        ('{"value": true}', "value: Input should be a valid number, got True"),
        ('{"value": "1"}', "value: Input should be a valid number, got '1'"),
        ('{"value": null}', "value: Input should be a valid number, got None"),
        ('{"value": 1, "pair": [1, NaN]}', "pair[1]: Input should be a finite number, got nan"),
        ('{"value": 1, "pair": [1]}', "pair[1]: is required, add it"),
        ('{"value": 1, "nonsense": 2}', "nonsense: is not a field of this message, remove it"),
        ("{}", "value: is required, add it"),
    ],
)
def test_numbers_are_finite_and_of_their_type_and_the_refusal_names_field_value_and_mend(
    body, words
):
    detail = refusal(Reading, body)
    assert detail.message.startswith(words)
    assert detail.param == words.split(":")[0]
    assert (detail.code, detail.type) == ("invalid_field", "invalid_request_error")


def test_numbers_keep_their_exact_value_and_the_sign_of_zero():
    text = '{"value":-0.0,"pair":[5e-324,0.1]}'
    assert Reading.model_validate_json(text).model_dump_json() == text


@pytest.mark.parametrize("count", ["-1", "1.0", "true", '"1"', "9007199254740992", "1" + "0" * 30])
def test_counts_are_whole_and_fit_every_json_reader(count):
    detail = refusal(Usage, f'{{"images": {count}, "texts": 0, "truncated": 0}}')
    assert detail.param == "images"
    usage = Usage(images=limits.COUNT, texts=0, truncated=0)
    assert json.loads(usage.model_dump_json())["images"] == 2**53 - 1


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        '{"value": 1',
        "[" * 100_000,
        '{"value": ' + "9" * 5000 + "}",
        '{"value": "\\ud800"}',
    ],
    ids=["empty", "brace", "cut", "deep", "huge integer", "lone surrogate"],
)
def test_text_that_is_no_json_is_a_malformed_body(body):
    detail = refusal(Reading, body)
    assert (detail.code, detail.param) == ("malformed_body", None)
    assert detail.message.startswith("the body is not JSON: ")


def test_the_last_of_duplicate_keys_counts():
    assert Reading.model_validate_json('{"value": 1, "value": 2}').value == 2


def test_lone_surrogates_are_refused_in_requests_and_replies_alike():
    detail = refusal(GroundItem, {"image": "YQ==", "text": "a\ud800"})
    assert detail.message == r"text: is no Unicode text (a lone surrogate), got 'a\ud800'"
    detail = refusal(ErrorDetail, {"message": "\udfff", "type": "a", "code": "b"})
    assert detail.param == "message"
    detail = refusal(Reading, {"value": 1, "\ud800": 2})
    assert detail.code == "invalid_field"
    detail.model_dump_json()


def test_nul_and_control_characters_are_text_like_any_other():
    item = GroundItem(image=Image(b"x"), text="a\x00b\x1f")
    assert GroundItem.model_validate_json(item.model_dump_json()).text == "a\x00b\x1f"


@pytest.mark.parametrize("flag", ['"yes"', "1", "0.0", "null"])
def test_flags_are_true_or_false(flag):
    body = f'{{"items": [{{"texts": ["a"]}}], "return_tokens": {flag}}}'
    assert refusal(PerplexityRequest, body).param == "return_tokens"


def token_request(**item):
    return {"items": [{"image": "YQ==", "texts": ["a dog"], **item}]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"items": []}, "items"),
        ({"items": [token_request()["items"][0]] * (limits.ITEMS + 1)}, "items"),
        (token_request(texts=[]), "items[0].texts"),
        (token_request(texts=["a"] * (limits.TEXTS + 1)), "items[0].texts"),
        (token_request(texts=["a", ""]), "items[0].texts[1]"),
        (token_request(texts=["a" * (limits.TEXT_CHARS + 1)]), "items[0].texts[0]"),
        (token_request(texts="a"), "items[0].texts"),
        (token_request(texts=["a", 3]), "items[0].texts[1]"),
        (token_request(id=""), "items[0].id"),
        (token_request(id="a" * (limits.ID_CHARS + 1)), "items[0].id"),
        (token_request(image=3), "items[0].image"),
        (token_request(image=None), "items[0].image"),
        (token_request(token_offsets=[[[0, -1]]]), "items[0].token_offsets[0][0][1]"),
        (token_request(token_offsets=[[[0]]]), "items[0].token_offsets[0][0][1]"),
        (
            token_request(token_offsets=[[[0, 1]] * (limits.TOKENS + 1)]),
            "items[0].token_offsets[0]",
        ),
        ({**token_request(), "profile": ""}, "profile"),
        ({**token_request(), "profile": "../secret"}, "profile"),
        ({**token_request(), "profile": "a\n"}, "profile"),
        ({**token_request(), "profile": "a" * 65}, "profile"),
        ({**token_request(), "profil": "a"}, "profil"),
    ],
)
def test_requests_beyond_a_limit_are_refused_by_the_path_of_the_field(body, param):
    detail = refusal(TokenRewardRequest, json.dumps(body))
    assert detail.param == param
    assert detail.message.startswith(f"{param}: ")
    assert len(detail.message) < 250


def test_requests_at_the_limit_are_taken():
    item = {
        "id": "i" * limits.ID_CHARS,
        "image": "YQ==",
        "texts": ["a" * limits.TEXT_CHARS] + ["b"] * (limits.TEXTS - 1),
        "token_offsets": [[[0, 1]] * limits.TOKENS] + [[]] * (limits.TEXTS - 1),
    }
    short = {"image": "YQ==", "texts": ["a"]}
    request = TokenRewardRequest.model_validate({"items": [item] + [short] * (limits.ITEMS - 1)})
    assert len(request.items) == limits.ITEMS


@pytest.mark.parametrize(
    ("cls", "fields", "param"),
    [
        (GroundRequest, {"box_threshold": 1.1}, "box_threshold"),
        (GroundRequest, {"nms_iou": -0.1}, "nms_iou"),
        (GroundRequest, {"max_boxes": 0}, "max_boxes"),
        (GroundRequest, {"max_boxes": limits.MAX_BOXES + 1}, "max_boxes"),
        (SentenceRewardRequest, {"weight": 1.5}, "weight"),
        (SentenceRewardRequest, {"combine": "mean"}, "combine"),
    ],
)
def test_options_outside_their_range_are_refused(cls, fields, param):
    texts = {"text": "a"} if cls is GroundRequest else {"texts": ["a"]}
    detail = refusal(cls, {"items": [{"image": "YQ==", **texts}], **fields})
    assert detail.param == param


def test_a_long_value_is_shown_by_its_beginning_and_length():
    detail = refusal(TokenRewardItem, {"image": "YQ==", "texts": ["\u00e9" * 20_001]})
    assert detail.message == (
        "texts[0]: String should have at most 20000 characters, got '"
        + "\u00e9" * 60
        + "'.. (20001 characters)"
    )


@pytest.mark.parametrize(
    ("texts", "offsets", "words"),
    [
        (["a dog"], [[[0, 6]]], r"token_offsets[0] holds [0, 6], outside the text of 5"),
        (["a dog"], [[[2, 1]]], r"token_offsets[0] holds [2, 1], outside"),
        (["a", "b"], [[[0, 1]]], "token_offsets has 1 entries for 2 texts: give one"),
        (["a", "b"], [[], [[0, 2]]], "token_offsets[1] holds [0, 2]"),
    ],
)
def test_offsets_lie_within_their_text(texts, offsets, words):
    item = {"image": "YQ==", "texts": texts, "token_offsets": offsets}
    detail = refusal(TokenRewardRequest, {"items": [item]})
    assert detail.param == "items[0]"
    assert detail.message.startswith(f"items[0]: {words}")


def test_offsets_count_code_points_and_may_be_empty_ranges():
    text = "e\u0301 \U0001f436"  # e, combining acute, space, dog face
    item = TokenRewardItem(image="YQ==", texts=(text,), token_offsets=(((0, 2), (3, 4), (4, 4)),))
    assert item.token_offsets == (((0, 2), (3, 4), (4, 4)),)
    with pytest.raises(ValidationError, match="outside the text of 4 characters"):
        TokenRewardItem(image="YQ==", texts=(text,), token_offsets=(((4, 5),),))


def test_language_scores_are_one_per_text():
    with pytest.raises(ValidationError, match="language_scores has 1 numbers for 2 texts"):
        SentenceRewardItem(image="YQ==", texts=("a", "b"), language_scores=(0.5,))


def test_ground_takes_either_phrases_or_text():
    neither = refusal(GroundItem, {"image": "YQ=="})
    both = refusal(GroundItem, {"image": "YQ==", "phrases": ["dog"], "text": "a dog"})
    assert neither.message == "phrases and text are both missing: give one of them"
    assert both.message == "phrases and text are both given: give one of them"
    assert both.param is None


def test_an_items_reply_has_exactly_one_of_result_and_error():
    error = ErrorDetail(message="m", type="t", code="c")
    result = GroundResult(detections=(), context="")
    assert GroundItemReply(index=0, result=result).error is None
    assert GroundItemReply(index=0, error=error).result is None
    with pytest.raises(ValidationError, match="item 3 has nothing: give exactly one of error, res"):
        GroundItemReply(index=3)
    with pytest.raises(ValidationError, match="item 3 has error and result"):
        GroundItemReply(index=3, result=result, error=error)


def test_replies_leave_out_what_is_not_there_and_write_null_where_the_contract_has_null():
    result = TokenRewardResult(spans=(), token_rewards=None, truncated=False)
    assert result.model_dump() == {"spans": (), "token_rewards": None, "truncated": False}
    answer = PerplexityResult(log_prob=-1.0, n_tokens=1, perplexity=2.0, sentences=())
    assert "tokens" not in answer.model_dump()
    assert answer.model_copy(update={"tokens": ()}).model_dump()["tokens"] == ()
    reply = PerplexityItemReply(index=0, results=(answer,))
    assert reply.model_dump(exclude={"results"}) == {"index": 0, "id": None}
    assert json.loads(reply.model_dump_json())["results"] == [
        {"log_prob": -1.0, "n_tokens": 1, "perplexity": 2.0, "sentences": []}
    ]
