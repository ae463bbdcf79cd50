import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline import parcels as module
from sightline.parcels import cut, parcels
from sightline_proto import (
    GroundItem,
    Image,
    PerplexityItem,
    TokenRewardItem,
    limits,
    sha256_of,
)


def item(image: Image | bytes = b"x", text: str = "a", **more) -> TokenRewardItem:
    image = image if isinstance(image, Image) else Image(image)
    return TokenRewardItem(image=image, texts=(text,), **more)


def test_bytes_base64_and_data_uri_of_one_file_are_one_image():
    text = base64.b64encode(b"file").decode()
    forms = [b"file", Image(text), Image(f"data:image/png;base64,{text}")]
    made = parcels([item(form) for form in forms])
    assert {parcel.sha256 for parcel in made} == {sha256_of(b"file")}
    assert [parcel.inline().image.value for parcel in made] == [b"file"] * 3
    assert made[2].by_reference().image.value == f"sha256:{sha256_of(b'file')}"
    assert [parcel.place for parcel in made] == [0, 1, 2]


@pytest.mark.parametrize("image", [Image("sha256:" + "0" * 64), Image("%%"), Image("http://a/b")])
def test_an_image_whose_bytes_are_not_at_hand_travels_as_it_is(image):
    [parcel] = parcels([item(image)])
    assert parcel.sha256 == ""
    assert parcel.inline() is parcel.item


def test_an_item_without_an_image_needs_none():
    [parcel] = parcels([PerplexityItem(texts=("a",))])
    assert parcel.inline() is parcel.item


def sizes(batch, *, body_bytes, monkeypatch):
    monkeypatch.setattr(module, "BODY_BYTES", body_bytes)
    return [len(run) for run in cut(parcels(batch))]


def test_a_batch_is_cut_at_the_limit_of_items():
    assert [len(run) for run in cut(parcels([item()] * 150))] == [64, 64, 22]
    assert list(cut(())) == []


def test_a_batch_is_cut_by_bytes_and_an_item_beyond_them_goes_alone(monkeypatch):
    batch = [item(bytes([n]) * size) for n, size in enumerate((400, 400, 2000, 100, 100))]
    assert sizes(batch, body_bytes=1000, monkeypatch=monkeypatch) == [2, 1, 2]


def test_an_image_weighs_once_per_request(monkeypatch):
    batch = [item(b"x" * 600)] * 3
    assert sizes(batch, body_bytes=1000, monkeypatch=monkeypatch) == [3]
    assert sizes(batch, body_bytes=730, monkeypatch=monkeypatch) == [2, 1]


def test_texts_phrases_and_offsets_weigh_too(monkeypatch):
    long = item(text="é" * 300)
    assert sizes([long, long], body_bytes=1000, monkeypatch=monkeypatch) == [1, 1]
    offsets = item(text="a", token_offsets=(((0, 1),) * 40,))
    assert sizes([offsets, offsets], body_bytes=1000, monkeypatch=monkeypatch) == [1, 1]
    phrases = GroundItem(image=Image(b"x"), phrases=("a" * 600,))
    assert sizes([phrases, phrases], body_bytes=1000, monkeypatch=monkeypatch) == [1, 1]
    text = GroundItem(image=Image(b"x"), text="a" * 600)
    assert sizes([text, text], body_bytes=1000, monkeypatch=monkeypatch) == [1, 1]


@given(st.lists(st.integers(1, 40), max_size=200))
def test_cutting_loses_nothing_and_keeps_the_order(lengths):
    batch = parcels([item(bytes(length)) for length in lengths])
    runs = list(cut(batch))
    assert [parcel for run in runs for parcel in run] == list(batch)
    assert all(0 < len(run) <= limits.ITEMS for run in runs)
