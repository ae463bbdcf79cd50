"""Both ways to force a teacher: by hand, against each other, and on models that cannot share."""

import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers

from sightline_service.models import teacher_forcing
from sightline_service.models.dialogue import Dialogue, Opening
from sightline_service.models.placement import Placement
from sightline_service.models.teacher_forcing import TeacherForcing

CPU = Placement(torch.device("cpu"), torch.float32)
HALF = Placement(torch.device("cpu"), torch.bfloat16)
BIGRAMS = torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.375, 0.5], [0.2, 0.2, 0.6]])
"""BIGRAMS[a][b] is the probability of b after a."""


def opening(*ids):
    return Opening(text="", text_ids=(), ids=ids, images={}, types={})


def answers(of, *each):
    return [Dialogue(of, ids, ((0, 1),) * len(ids), {}) for ids in each]


class Bigrams(torch.nn.Module):
    """Remembers nothing but the last token, so that it needs no cache."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def forward(self, input_ids, past_key_values=None, use_cache=None, attention_mask=None):
        self.rows.append(tuple(input_ids.shape))
        return SimpleNamespace(logits=BIGRAMS[input_ids].log())


class Forgetful(Bigrams):
    """Sums up all that it was given, and forgets the sum between two passes."""

    def forward(self, input_ids, past_key_values=None, use_cache=None, attention_mask=None):
        return SimpleNamespace(logits=BIGRAMS[input_ids.cumsum(1) % 3].log())


class Refusing(Bigrams):
    """Takes no cache, though its signature says so."""

    def forward(self, input_ids, past_key_values=None, use_cache=None, attention_mask=None):
        if past_key_values is not None:
            raise AttributeError("no such layer")
        return SimpleNamespace(logits=BIGRAMS[input_ids].log())


class Whole(Bigrams):
    """Has never heard of a cache."""

    def forward(self, input_ids, use_cache=None, attention_mask=None):
        return super().forward(input_ids)


def decoder(*, window=None, vocabulary=50):
    torch.manual_seed(0)
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.3,
    }
    if window is None:
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape)).eval()
    config = transformers.MistralConfig(**shape, sliding_window=window)
    return transformers.MistralForCausalLM(config).eval()


def sharing(model, placement=CPU):
    forcing = TeacherForcing(model, placement)
    forcing.try_sharing([*answers(opening(1, 0), (2,), (1, 2, 0)), *answers(opening(2, 2), (0, 1))])
    return forcing


def as_items(forcing, dialogues):
    """Each opening with its answers as one item, as `HfPerplexity.prepare_each` lays it out."""
    counts = Counter(id(dialogue.opening) for dialogue in dialogues)
    items = {
        id(each.opening): replace(
            each.opening, is_shared=forcing.gains(each.opening, counts[id(each.opening)])
        )
        for each in dialogues
    }
    return [replace(each, opening=items[id(each.opening)]) for each in dialogues]


def drawn(n_openings, n_answers, *, length=40, longest=30, vocabulary=50):
    source = np.random.default_rng(4)

    def ids(n):
        return tuple(source.integers(0, vocabulary, n).tolist())

    openings = [opening(*ids(length)) for _ in range(n_openings)]
    each = [
        answers(of, *(ids(source.integers(1, longest)) for _ in range(n_answers)))
        for of in openings
    ]
    dialogues = [dialogue for some in each for dialogue in some]
    source.shuffle(dialogues)
    return dialogues


def assert_equal(found, wanted, atol=1e-4):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=atol)


@pytest.mark.parametrize("way", ["whole", "shared"])
def test_log_probs_are_those_of_the_table(way):
    dialogues = [*answers(opening(1, 0), (2, 1, 1), (0,)), *answers(opening(0, 2), (2, 0))]
    found = getattr(TeacherForcing(Bigrams(), CPU), way)(dialogues)
    assert_equal(
        found,
        [
            [math.log(0.25), math.log(0.2), math.log(0.375)],
            [math.log(0.5)],
            [math.log(0.6), math.log(0.2)],
        ],
        atol=1e-6,
    )


def test_an_opening_is_read_once_for_all_its_answers():
    model = Bigrams()
    forcing = sharing(model)
    assert forcing.shares
    model.rows.clear()
    dialogues = answers(opening(*[0, 1, 2] * 30), *[(1, 2, 0, 1)] * 8)
    shared = forcing.log_probs(as_items(forcing, dialogues))
    assert model.rows == [(1, 90), (8, 3)]
    assert_equal(shared, forcing.whole(dialogues))


def test_a_short_opening_or_one_of_a_single_answer_is_not_worth_a_pass():
    model = Bigrams()
    forcing = sharing(model)
    model.rows.clear()
    forcing.log_probs(as_items(forcing, answers(opening(0, 1), (1, 2), (2, 1))))
    singles = [*answers(opening(*[1] * 90), (1, 2)), *answers(opening(*[1] * 90), (2,))]
    forcing.log_probs(as_items(forcing, singles))
    assert model.rows == [(2, 4), (2, 92)]


@pytest.mark.parametrize("window", [None, 8], ids=["full attention", "sliding window"])
def test_shared_openings_give_the_log_probs_of_whole_sequences(window):
    forcing = sharing(decoder(window=window))
    assert forcing.shares
    dialogues = drawn(3, 12)
    assert_equal(forcing.shared(dialogues), forcing.whole(dialogues))


def test_openings_of_several_lengths_and_single_texts_mix_in_one_batch():
    forcing = sharing(decoder())
    dialogues = [
        *drawn(2, 9, length=40),
        *drawn(1, 5, length=70),
        *drawn(4, 1, length=25),
        *drawn(3, 2, length=2),
    ]
    np.random.default_rng(0).shuffle(dialogues)
    wanted = [forcing.whole([dialogue])[0] for dialogue in dialogues]
    assert np.ptp(np.concatenate(wanted)) > 1
    assert_equal(forcing.log_probs(as_items(forcing, dialogues)), wanted)


def test_neighbours_do_not_decide_whether_an_item_shares():
    forcing = sharing(decoder())
    item = as_items(forcing, drawn(1, 3, length=50))
    assert not item[0].opening.is_shared
    others = as_items(forcing, drawn(4, 9, length=50))
    assert others[0].opening.is_shared
    assert_equal(forcing.log_probs([*item, *others])[:3], forcing.log_probs(item), atol=1e-6)


def test_answers_of_one_token_need_no_second_pass():
    forcing = sharing(decoder())
    dialogues = answers(opening(*range(40)), *((n,) for n in range(6)))
    assert_equal(forcing.log_probs(as_items(forcing, dialogues)), forcing.whole(dialogues))


def test_a_wide_vocabulary_is_gone_through_in_pieces(monkeypatch):
    forcing = sharing(decoder())
    dialogues = drawn(2, 5)
    dialogues = as_items(forcing, dialogues)
    wanted = forcing.log_probs(dialogues)
    monkeypatch.setattr(teacher_forcing, "_LOGITS", 150)  # three positions at a time
    assert_equal(forcing.log_probs(dialogues), wanted, atol=1e-6)


@pytest.mark.parametrize("kind", [Forgetful, Refusing, Whole])
def test_a_model_that_cannot_share_reads_whole_sequences(kind, caplog):
    caplog.set_level("INFO")
    forcing = sharing(kind())
    assert not forcing.shares
    assert ("do not share" in caplog.text) == (kind is not Whole)
    dialogues = answers(opening(*[0, 1, 2] * 30), (1, 2, 0), (2, 2), (0,))
    assert_equal(forcing.log_probs(as_items(forcing, dialogues)), forcing.whole(dialogues))


def test_half_precision_shares_too():
    forcing = sharing(decoder().to(torch.bfloat16), HALF)
    assert forcing.shares
    dialogues = drawn(2, 6)
    assert_equal(
        forcing.log_probs(as_items(forcing, dialogues)), forcing.whole(dialogues), atol=0.15
    )
