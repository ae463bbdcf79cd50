"""Leaving out what a causal tower never looks at changes no embedding."""

import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sightline_service.models.causal_text import CausalText, pieces

VISION = {"image_size": 32, "patch_size": 16, "layers": 1, "width": 32, "head_width": 16}
TEXT = {"context_length": 16, "vocab_size": 64, "width": 32, "heads": 2, "layers": 2}


def clip(**text):
    torch.manual_seed(0)
    return open_clip.CLIP(24, VISION, {**TEXT, **text}).eval()


def custom_clip(**text):
    torch.manual_seed(0)
    return open_clip.CustomTextCLIP(24, VISION, {**TEXT, **text}).eval()


PADDED = [
    [60, 3, 4, 63] + [0] * 12,
    [60, *range(1, 15), 63],
    [60, 63] + [0] * 14,
    [60, 9, 9, 9, 9, 9, 63] + [0] * 9,
]


@pytest.mark.parametrize("build", [clip, custom_clip])
@pytest.mark.parametrize(
    "text",
    [
        {},
        {"pool_type": "eos", "eos_id": 63},
        {"proj_type": "none", "width": 24},
        {"proj_bias": True},
    ],
    ids=["argmax", "eos", "no projection", "biased projection"],
)
def test_trimmed_texts_embed_as_padded_ones_do(build, text):
    model = build(**text)
    causal = CausalText.of(model)
    assert causal is not None
    with torch.inference_mode():
        expected = model.encode_text(torch.tensor(PADDED))
        for row, want in zip(PADDED, expected, strict=True):
            short = causal.trimmed(row)
            assert short == tuple(row[: row.index(63) + 1])
            got = causal.encode(torch.tensor([short]))
            torch.testing.assert_close(got[0], want, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "model",
    [
        clip(no_causal_mask=True),
        clip(pool_type="last"),
        clip(pool_type="eos", eos_id=0),
        custom_clip(no_causal_mask=True),
        custom_clip(embed_cls=True),
    ],
    ids=["bidirectional", "last", "end is padding", "bidirectional of its own", "class token"],
)
def test_a_tower_that_sees_its_padding_is_left_alone(model):
    assert CausalText.of(model) is None


@given(lengths=st.lists(st.integers(1, 77), min_size=1, max_size=80))
def test_pieces_hold_every_place_once_and_never_pad_more_than_one_batch(lengths):
    parts = pieces(lengths)
    assert sorted(place for part in parts for place in part) == list(range(len(lengths)))
    padded = sum(len(part) * max(lengths[place] for place in part) for part in parts)
    assert padded <= len(lengths) * max(lengths)
    assert padded + 512 * (len(parts) - 1) <= len(lengths) * max(lengths)


def test_one_long_text_does_not_lengthen_its_many_short_neighbours():
    lengths = [12] * 40 + [77]
    assert pieces(lengths) == [[40], list(range(40))]
    assert pieces([12, 13, 14]) == [[0, 1, 2]]
