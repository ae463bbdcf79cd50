"""The units that the benchmark asks for."""

import base64
import hashlib
import io

import numpy as np
import PIL.Image
import pytest

from sightline_bench.dialect import DIALECTS
from sightline_bench.load import LOADS, Load, Stream, caption
from sightline_core.sentences import split_sentences
from sightline_proto import SentenceRewardRequest, from_protobuf


@pytest.fixture
def stream(tmp_path):
    def build(**changes):
        return Stream(Load("test", **{"sizes": ((48, 32),), **changes}), tmp_path)

    return build


def test_the_same_number_gives_the_same_unit_and_others_differ(stream):
    left, right = stream(n_texts=3), stream(n_texts=3)
    assert left.unit(7) == right.unit(7)
    hashes = {hashlib.sha256(left.unit(n).image).hexdigest() for n in range(50)}
    assert len(hashes) == 50
    assert len({text for n in range(50) for text in left.unit(n).texts}) == 150


def test_distinct_files_show_the_same_picture(stream):
    pixels = [
        np.asarray(PIL.Image.open(io.BytesIO(stream().unit(n).image))) for n in (0, 123_456_789)
    ]
    np.testing.assert_array_equal(*pixels)


def test_the_base64_is_that_of_the_file(stream):
    for number in (0, 999, 10**9 - 1):
        unit = stream().unit(number)
        assert base64.b64decode(unit.image_base64) == unit.image


def test_repeated_images_come_again_with_new_texts(stream):
    repeated = stream(n_images=4)
    assert repeated.unit(1).image == repeated.unit(5).image
    assert repeated.unit(1).texts != repeated.unit(5).texts


def test_a_paragraph_has_as_many_sentences_as_it_says(stream):
    [text] = stream(n_sentences=4).unit(3).texts
    assert len(split_sentences(text)) == 4


def test_captions_differ_for_a_long_time():
    captions = {caption(number) for number in range(0, 2_000_000, 97)}
    assert len(captions) == len(range(0, 2_000_000, 97))


def test_our_dialects_ask_what_the_contract_says(stream):
    unit = stream(n_texts=2).unit(1)
    [as_json], [binary] = (DIALECTS[f"sentence-{kind}"](unit) for kind in ("json", "protobuf"))
    bodies = [request.partition(b"\r\n\r\n")[2] for request in (as_json, binary)]
    asked = SentenceRewardRequest.model_validate_json(bodies[0])
    same = from_protobuf(SentenceRewardRequest, bodies[1])
    for request in (asked, same):
        assert request.items[0].texts == unit.texts
        assert request.items[0].image.decode() == unit.image


def test_every_load_is_known_by_its_name():
    assert all(load.name == name for name, load in LOADS.items())
