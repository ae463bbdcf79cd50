"""Streams of random numbers belong to one item alone."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_world.splits import SPLITS, stream


def test_the_streams_of_all_splits_seeds_and_purposes_differ() -> None:
    keys = itertools.product(SPLITS, range(20), ("scene", "caption", "absent", "question"), (0, 1))
    drawn = [
        stream(split, index, purpose=purpose, seed=seed).bytes(16)  # type: ignore[arg-type]  # product widens the literals
        for split, index, purpose, seed in keys
    ]
    assert len(set(drawn)) == len(drawn) == 4 * 20 * 4 * 2


@given(index=st.integers(0, 10**9), split=st.sampled_from(SPLITS))
def test_a_stream_is_the_same_whenever_it_is_opened(index: int, split: str) -> None:
    first = stream(split, index).bytes(8)  # type: ignore[arg-type]  # sampled from SPLITS
    stream(split, index + 1).bytes(8)  # type: ignore[arg-type]  # sampled from SPLITS
    assert stream(split, index).bytes(8) == first  # type: ignore[arg-type]  # sampled from SPLITS


def test_an_unknown_split_and_negative_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="split 'dev' is unknown; use one of train"):
        stream("dev", 0)  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(ValueError, match="index=-1"):
        stream("train", -1)
    with pytest.raises(ValueError, match="seed=-2"):
        stream("train", 0, seed=-2)
