"""Recorded layers give the same bits as the layers, and what cannot be recorded stays as it is."""

import weakref
from itertools import count

import pytest
import torch

from sightline_service.models import one_call as recording
from sightline_service.models.one_call import one_call
from sightline_service.models.placement import forward_pass
from sightline_service.models.protocols import OutOfDeviceMemoryError

EXAMPLES = [(torch.ones(rows, length, dtype=torch.int64),) for rows, length in ((2, 5), (1, 2))]


class Layers(torch.nn.Module):
    """A small tower that counts how often Python ran it."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(50, 16)
        layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
        self.layers = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.calls = 0

    def encode(self, ids):
        self.calls += 1
        return self.layers(self.embedding(ids))[:, -1]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Layers().eval()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 5), (7, 2), (64, 30)])
def test_other_sizes_than_the_examples_give_the_same_bits(model, shape):
    recorded = one_call(model, model.encode, EXAMPLES)
    ids = torch.randint(50, shape)
    calls = model.calls
    with torch.inference_mode():
        seen = [recorded(ids) for _ in range(3)]
        assert model.calls == calls
        expected = model.encode(ids)
    assert all(torch.equal(each, expected) for each in seen)


def test_a_recording_keeps_no_batch(model):
    recorded = one_call(model, model.encode, EXAMPLES)
    ids = torch.randint(50, (3, 5))
    kept = weakref.ref(ids)
    with torch.inference_mode():
        recorded(ids)
    del ids
    assert kept() is None


def test_a_recording_computes_with_the_weights_themselves(model):
    recorded = one_call(model, model.encode, EXAMPLES)
    [ids] = EXAMPLES[0]
    with torch.inference_mode():
        before = recorded(ids)
        model.embedding.weight.mul_(2)
        assert torch.equal(recorded(ids), model.encode(ids))
        assert not torch.equal(recorded(ids), before)


def by_size(rows):
    return rows * 2 if rows.shape[0] > 2 else rows


def by_content(rows):
    return rows * 2 if rows.sum() > 10 else rows


def by_the_first_size(rows):
    return rows + torch.ones(len(rows.tolist()), 1)


def by_python(rows):
    return torch.tensor([[max(row)] for row in rows.tolist()])


def failing(rows):
    raise LookupError


@pytest.mark.parametrize(
    "encode", [by_size, by_content, by_the_first_size, by_python, failing], ids=lambda e: e.__name__
)
def test_code_that_looks_at_what_it_is_given_is_not_recorded(encode):
    assert one_call(torch.nn.Identity(), encode, EXAMPLES) is encode


def test_a_recording_that_gives_other_bits_is_not_used():
    calls = count()

    def by_state(rows):
        return rows + next(calls)

    assert one_call(torch.nn.Identity(), by_state, EXAMPLES) is by_state


def test_nothing_is_recorded_where_torch_does_not_promise_it(model, monkeypatch):
    monkeypatch.setattr(recording, "_LAST_PYTHON", (3, 10))
    encode = model.encode
    assert one_call(model, encode, EXAMPLES) is encode
    assert model.calls == 0


def test_memory_that_runs_out_in_a_recording_is_told_as_such():
    def every_pair(rows):
        return rows[:, None] * rows[None]

    recorded = one_call(torch.nn.Identity(), every_pair, EXAMPLES)
    assert recorded is not every_pair
    many = torch.ones(1, 1).expand(10**8, 1)
    with pytest.raises(OutOfDeviceMemoryError), forward_pass():
        recorded(many)
