"""The protobuf form: every message survives it, and nothing malformed gets through."""

import contextlib
import math
import tracemalloc
import types
from typing import Annotated, Literal, Union, get_args, get_origin

import pytest
from google.protobuf import message_factory
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sightline_proto import (
    ErrorBody,
    GroundItem,
    GroundRequest,
    Image,
    ItemReply,
    ModelInfo,
    PerplexityItem,
    PerplexityRequest,
    SentenceRewardItem,
    TokenRewardItem,
    TokenRewardRequest,
    TokenRewardResult,
    Usage,
    WireError,
    from_protobuf,
    limits,
    to_protobuf,
)
from sightline_proto.descriptors import FIELDS, PACKAGE, POOL
from sightline_proto.message import Message

ALL_MESSAGES = sorted(FIELDS, key=lambda cls: cls.__name__)
WORDS = st.text(min_size=1, max_size=8)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def bound(metadata, name, tightest=max):
    """The tightest of the constraints called `name`, or None."""
    found = [getattr(constraint, name) for constraint in metadata if hasattr(constraint, name)]
    return tightest(found) if found else None


def values(annotation, metadata=()):
    """A strategy for the values that an annotation allows."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        flat = [m for entry in more for m in (entry, *getattr(entry, "metadata", ()))]
        return values(inner, (*metadata, *flat))
    if get_origin(annotation) in (Union, types.UnionType):
        return st.one_of(*(values(option, metadata) for option in get_args(annotation)))
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    if get_origin(annotation) is tuple:
        parts = get_args(annotation)
        if parts[-1] is not Ellipsis:
            return st.tuples(*(values(part) for part in parts))
        fewest = bound(metadata, "min_length") or 0
        return st.lists(values(parts[0]), min_size=fewest, max_size=fewest + 2).map(tuple)
    if annotation is types.NoneType:
        return st.none()
    if annotation is Image:
        return st.one_of(st.binary(max_size=20), st.text(max_size=20)).map(Image)
    if annotation is str:
        named = any(getattr(m, "pattern", None) for m in metadata)
        return st.from_regex(r"\A[A-Za-z0-9._-]{1,64}\Z") if named else WORDS
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        return st.integers(bound(metadata, "ge"), bound(metadata, "le", min))
    if annotation is float:
        return st.floats(
            bound(metadata, "ge"),
            bound(metadata, "le", min),
            allow_nan=False,
            allow_infinity=False,
        )
    return messages(annotation)


@st.composite
def messages(draw, cls):
    """A valid message of any class; fields that depend on each other are drawn together."""
    fields = {
        name: draw(values(Annotated[info.annotation, *info.metadata, None]))
        for name, info in cls.model_fields.items()
    }
    if cls is TokenRewardItem and fields["token_offsets"] is not None:
        fields["token_offsets"] = tuple(
            tuple(sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2))) for _ in range(3))
            for text in fields["texts"]
        )
    elif cls is SentenceRewardItem and fields["language_scores"] is not None:
        fields["language_scores"] = tuple(draw(NUMBERS) for _ in fields["texts"])
    elif cls is GroundItem:
        fields["phrases" if fields["text"] is not None else "text"] = None
        if fields["phrases"] is None and fields["text"] is None:
            fields["text"] = draw(WORDS)
    elif issubclass(cls, ItemReply):
        answers = sorted({"error", "result", "results"} & cls.model_fields.keys())
        chosen = draw(st.sampled_from(answers))
        for name in answers:
            annotation = get_args(cls.model_fields[name].annotation)[0]
            fields[name] = draw(values(annotation)) if name == chosen else None
    return cls(**fields)


@pytest.mark.parametrize("cls", ALL_MESSAGES, ids=lambda cls: cls.__name__)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_message_survives_json_protobuf_json(cls, data):
    message = data.draw(messages(cls))
    through_protobuf = from_protobuf(cls, to_protobuf(message))
    assert through_protobuf == message
    assert through_protobuf.model_dump_json() == message.model_dump_json()

    json = message.model_dump_json()
    from_json = cls.model_validate_json(json)
    assert from_protobuf(cls, to_protobuf(from_json)).model_dump_json() == json


@settings(max_examples=300, deadline=None)
@given(data=st.data(), cls=st.sampled_from(ALL_MESSAGES), noise=st.binary(max_size=60))
def test_noise_and_cut_messages_never_raise_anything_unexpected(data, cls, noise):
    whole = to_protobuf(data.draw(messages(cls)))
    cut = data.draw(st.integers(0, len(whole)))
    for body in (noise, whole[:cut], whole[:cut] + noise + whole[cut:]):
        with contextlib.suppress(WireError, ValidationError):
            assert isinstance(from_protobuf(cls, body), cls)


def twin(name):
    """The bare protobuf class: what a client in another language writes with."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))()


def test_null_and_empty_lists_differ():
    null = TokenRewardResult(spans=(), token_rewards=None, truncated=False)
    empty = TokenRewardResult(spans=(), token_rewards=(), truncated=False)
    assert to_protobuf(null) != to_protobuf(empty)
    assert from_protobuf(TokenRewardResult, to_protobuf(null)).token_rewards is None
    assert from_protobuf(TokenRewardResult, to_protobuf(empty)).token_rewards == ()


def test_one_empty_list_of_offsets_stays_one_list():
    item = TokenRewardItem(image=Image(b"x"), texts=("a",), token_offsets=((),))
    assert from_protobuf(TokenRewardItem, to_protobuf(item)).token_offsets == ((),)


def test_zeros_false_and_the_sign_of_zero_arrive():
    request = GroundRequest(
        items=(GroundItem(image=Image(b"x"), text="a"),), box_threshold=-0.0, nms_iou=0
    )
    back = from_protobuf(GroundRequest, to_protobuf(request))
    assert (back.box_threshold, back.nms_iou) == (0.0, 0.0)
    assert math.copysign(1, back.box_threshold) == -1


def test_absent_fields_with_a_default_take_the_default():
    source = twin("GroundRequest")
    source.items.add(text="dog").image.data = b"x"
    request = from_protobuf(GroundRequest, source.SerializeToString())
    assert (request.box_threshold, request.max_boxes) == (0.35, 20)
    assert request.items[0].phrases is None


def test_an_absent_required_number_is_an_error_and_not_zero():
    source = twin("Usage")
    source.images, source.texts = 1, 2
    with pytest.raises(ValidationError) as caught:
        from_protobuf(Usage, source.SerializeToString())
    assert [(e["loc"], e["type"]) for e in caught.value.errors()] == [(("truncated",), "missing")]


def test_image_bytes_travel_as_they_are():
    data = bytes(range(256)) * 4
    body = to_protobuf(PerplexityItem(image=Image(data), texts=("a",)))
    assert data in body
    assert len(body) < len(data) + 32
    assert from_protobuf(PerplexityItem, body).image == Image(data)


def test_an_empty_image_stays_empty_bytes_or_empty_text():
    for value in (b"", ""):
        body = to_protobuf(PerplexityItem(image=Image(value), texts=("a",)))
        image = from_protobuf(PerplexityItem, body).image
        assert image is not None
        assert image.value == value
        assert type(image.value) is type(value)


def test_an_image_message_with_neither_form_is_refused_by_its_path():
    source = twin("PerplexityRequest")
    source.items.add(texts=["a"]).image.SetInParent()
    with pytest.raises(WireError, match=r"^items\[0\]\.image is an empty Image"):
        from_protobuf(PerplexityRequest, source.SerializeToString())


def test_odd_bounds_are_refused_by_their_path():
    source = twin("TokenRewardRequest")
    item = source.items.add(texts=["a dog"])
    item.image.data = b"x"
    item.token_offsets.values.add(bounds=[0, 1, 1])
    with pytest.raises(WireError, match=r"^items\[0\]\.token_offsets\[0\] has 3 bounds"):
        from_protobuf(TokenRewardRequest, source.SerializeToString())


def test_offsets_take_a_few_bytes_each():
    offsets = tuple((i, i + 1) for i in range(100))
    item = TokenRewardItem(image=Image(b"x"), texts=("a" * 100,), token_offsets=(offsets,))
    assert len(to_protobuf(item)) < 100 + 2 * 100 + 32


def test_values_refused_by_the_message_keep_their_location():
    source = twin("TokenRewardRequest")
    item = source.items.add(texts=["a dog", ""])
    item.image.data = b"x"
    with pytest.raises(ValidationError) as caught:
        from_protobuf(TokenRewardRequest, source.SerializeToString())
    assert caught.value.errors()[0]["loc"] == ("items", 0, "texts", 1)


def test_nan_and_negative_counts_are_refused_as_in_json():
    request = twin("GroundRequest")
    request.items.add(text="dog").image.data = b"x"
    request.box_threshold = math.nan
    with pytest.raises(ValidationError, match="finite"):
        from_protobuf(GroundRequest, request.SerializeToString())
    usage = twin("Usage")
    usage.images, usage.texts, usage.truncated = -1, 0, 0
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        from_protobuf(Usage, usage.SerializeToString())


def test_the_longest_lists_are_known_from_the_messages():
    most = {(cls, field.name): field.most for cls, fields in FIELDS.items() for field in fields}
    assert most[TokenRewardRequest, "items"] == limits.ITEMS
    assert most[TokenRewardItem, "texts"] == limits.TEXTS
    assert most[TokenRewardItem, "token_offsets"] == limits.TEXTS
    assert most[SentenceRewardItem, "language_scores"] == limits.TEXTS
    assert most[GroundItem, "phrases"] == limits.TEXTS
    assert most[TokenRewardResult, "spans"] is None


def many_items():
    item = TokenRewardItem(image=Image(b"x"), texts=("a",))
    one = to_protobuf(TokenRewardRequest(items=(item,)))
    return TokenRewardRequest, one * 300_000  # protobuf joins lists that follow each other


def many_offsets():
    item = twin("TokenRewardItem")
    item.image.data, item.texts[:] = b"x", ["a"]
    item.token_offsets.values.add(bounds=[0] * 600_000)
    return TokenRewardItem, item.SerializeToString()


@pytest.mark.parametrize("make", [many_items, many_offsets])
def test_a_list_far_too_long_is_refused_before_it_fills_memory(make):
    cls, body = make()
    tracemalloc.start()
    with pytest.raises(ValidationError) as caught:
        from_protobuf(cls, body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "too_long" in {error["type"] for error in caught.value.errors()}
    assert peak < 5_000_000


UNKNOWN_FIELD = b"\xf8\x06\x01"  # number 111, a varint
AS_VARINT = b"\x08\x01"  # number 1 as a varint, where a string belongs


def with_unknown_image_field():
    item = twin("PerplexityItem")
    item.texts.append("a")
    item.image.MergeFromString(UNKNOWN_FIELD)
    return item.SerializeToString()


@pytest.mark.parametrize(
    ("cls", "body", "words"),
    [
        (Usage, UNKNOWN_FIELD, "the body: sightline.v1.Usage has no field 111"),
        (ModelInfo, AS_VARINT, "the body: field id (1) has the wire type of another type"),
        (ErrorBody, b"\x0a\x03" + UNKNOWN_FIELD, "error: sightline.v1.ErrorDetail has no field"),
        (PerplexityItem, with_unknown_image_field(), "image: sightline.v1.Image has no field 111"),
        (TokenRewardResult, b"\x12\x03" + UNKNOWN_FIELD, "token_rewards: sightline.v1.DoubleList"),
        (TokenRewardItem, b"\x22\x05\x0a\x03" + UNKNOWN_FIELD, "token_offsets[0]: sightline.v1"),
        (PerplexityRequest, b"\x0a\x03" + UNKNOWN_FIELD, "items[0]: sightline.v1.PerplexityItem"),
    ],
)
def test_unknown_fields_and_wrong_wire_types_are_refused_at_every_depth(cls, body, words):
    with pytest.raises(WireError) as caught:
        from_protobuf(cls, body)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    "body",
    [b"\x0a", b"\x0a\x05ab", b"\xff" * 20, b"\x0a\x02\xff\xfe", b'{"items":[]}', b"\x0b" * 500],
    ids=["no length", "cut string", "endless varint", "not UTF-8", "JSON", "deep groups"],
)
def test_malformed_bytes_are_refused(body):
    with pytest.raises(WireError, match=r"sightline\.v1\.ModelInfo"):
        from_protobuf(ModelInfo, body)


def test_a_class_outside_the_contract_is_refused():
    class Stranger(Message):
        """Not part of the contract."""

        name: str

    with pytest.raises(TypeError, match="Stranger is no message"):
        to_protobuf(Stranger(name="x"))
    with pytest.raises(TypeError, match="Stranger is no message"):
        from_protobuf(Stranger, b"")
