"""Images inside messages: which texts hold bytes, which refer, which are refused."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sightline_proto import (
    Image,
    ImageEncodingError,
    ImageUrlError,
    PerplexityItem,
    TokenRewardItem,
    sha256_of,
)

DATA = bytes(range(256))
TEXT = base64.b64encode(DATA).decode()
HASH = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"data:image/png;base64,{TEXT}",
        f"DATA:image/svg+xml;charset=utf-8;BASE64,{TEXT}",
        f"data:;base64,{TEXT}",
        f"  {TEXT}\n",
        base64.encodebytes(DATA).decode(),
        base64.encodebytes(DATA).decode().replace("\n", "\r\n"),
        f"\ndata:image/png;base64,\n{TEXT}\n",
    ],
    ids=["base64", "uri", "upper", "bare uri", "padded", "wrapped", "CRLF", "uri in lines"],
)
def test_text_decodes_to_the_files_bytes(text):
    assert Image(text).decode() == DATA
    assert Image(text).sha256 is None


def test_bytes_are_what_they_are_and_become_base64_in_json():
    image = Image(DATA)
    assert image.decode() is DATA
    assert image.sha256 is None
    assert image.to_text() == TEXT
    assert PerplexityItem(image=image, texts=("a",)).model_dump(mode="json")["image"] == TEXT


@pytest.mark.parametrize(
    "text",
    [
        "not base64!",
        TEXT[:-1],
        "====",
        "sha256:abc",
        f"sha512:{HASH}",
        "data:image/png,raw",
        "data:image/png;base64,%%",
        "gr\u00fcn",
        "a\x00b=",
    ],
)
def test_text_that_holds_no_bytes_is_refused_with_the_forms_that_do(text):
    with pytest.raises(ImageEncodingError, match="sha256:<64 hex digits>"):
        Image(text).decode()


@pytest.mark.parametrize(
    "url", ["http://a/b.png", "https://a", "file:///etc/passwd", "S3://bucket", " ftp://x"]
)
def test_urls_are_never_fetched(url):
    with pytest.raises(ImageUrlError, match="not fetched: send the bytes"):
        Image(url).decode()


def test_a_reference_gives_its_hash_in_lower_case_and_no_bytes():
    for text in (f"sha256:{HASH}", f"SHA256:{HASH.upper()}", f" sha256:{HASH}\n"):
        assert Image(text).sha256 == HASH
        with pytest.raises(ImageEncodingError, match=f"sha256:{HASH}: look it up"):
            Image(text).decode()


@pytest.mark.parametrize("text", [f"sha256:{HASH}0", f"sha256:{HASH[:-1]}", f"sha256:{HASH[:-1]}g"])
def test_a_hash_of_another_length_or_alphabet_is_none(text):
    assert Image(text).sha256 is None


def test_the_hash_is_the_one_that_sha256sum_prints():
    assert sha256_of(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for size in (1, 2047, 2048, 5000, 128 * 1024, 128 * 1024 + 1):
        data = (DATA * 1000)[:size]
        assert sha256_of(data) == hashlib.sha256(data).hexdigest()


def test_an_empty_image_fails_when_decoded_downstream_and_not_the_whole_request():
    item = TokenRewardItem.model_validate_json('{"image": "", "texts": ["a"]}')
    assert item.image.decode() == b""


@pytest.mark.parametrize("value", ["3", "null", "true", "[]", '{"data": ""}'])
def test_other_types_are_refused_by_the_message(value):
    with pytest.raises(ValidationError, match="must be a string: base64"):
        TokenRewardItem.model_validate_json(f'{{"image": {value}, "texts": ["a"]}}')


def test_a_lone_surrogate_is_refused_by_the_message():
    with pytest.raises(ValidationError, match="lone surrogate"):
        TokenRewardItem(image="\ud800", texts=("a",))
    with pytest.raises(ValidationError, match="lone surrogate"):
        TokenRewardItem(image=Image("\ud800"), texts=("a",))


def test_the_repr_names_the_size_alone():
    assert repr(Image(DATA)) == "Image(256 bytes)"
    assert repr(Image("abcd")) == "Image(4 characters)"


def test_the_json_schema_is_a_string():
    for mode in ("validation", "serialization"):
        schema = TokenRewardItem.model_json_schema(mode=mode)["properties"]["image"]
        assert schema["type"] == "string"
        assert "sha256" in schema["description"]


@given(st.text(alphabet="ABab01+/= \n-_é", max_size=12))
def test_what_is_base64_is_for_the_standard_library_to_say(text):
    try:
        expected = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        with pytest.raises(ImageEncodingError):
            Image(text).decode()
    else:
        assert Image(text).decode() == expected


@given(st.binary(max_size=100), st.sampled_from([0, 128 * 1024]))
def test_bytes_of_any_length_come_back(data, more):
    data += bytes(more)
    assert Image(Image(data).to_text()).decode() == data
