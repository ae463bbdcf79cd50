"""Puts the rewards of text spans on a tokeniser's tokens. Knows offsets; knows no tokeniser."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

Assign = Literal["last", "first", "all", "split"]
ASSIGNMENTS: tuple[Assign, ...] = get_args(Assign)


def align_rewards(
    spans: Sequence[tuple[int, int]],
    rewards: Sequence[float],
    token_offsets: Sequence[tuple[int, int]],
    *,
    assign: Assign = "last",
) -> tuple[float, ...]:
    """One number per token: its share of the rewards of the spans that it touches, 0.0 elsewhere.

    A token belongs to a span where their half-open character ranges intersect, so an empty range
    belongs to none, a token with its leading space belongs to the word after it, and all byte
    pieces of one character belong to that character's span. A token of two spans gets both
    shares; the reward of a span that no token touches is left out.

    Args:
        spans: ranges in order that do not overlap, as of ``find_spans``.
        rewards: one number per span.
        token_offsets: one range per token, in any order.
        assign: "last" or "first" of the span's tokens in the order given (FiSAO: the state where
            the word is complete is the last), "all" of them the whole reward, or "split" evenly.

    Raises:
        ValueError: unequal lengths, a range or reward that is not valid, an unknown ``assign``.
    """
    _check(spans, rewards, token_offsets, assign)
    aligned = [0.0] * len(token_offsets)
    for touching, reward in zip(_touching(spans, token_offsets), rewards, strict=True):
        if not touching:
            continue
        share = reward / len(touching) if assign == "split" else reward
        for token in _chosen(touching, assign):
            aligned[token] += share
    return tuple(aligned)


def _touching(
    spans: Sequence[tuple[int, int]], token_offsets: Sequence[tuple[int, int]]
) -> list[list[int]]:
    """The tokens of each span, in the order of the tokens."""
    ends = [end for _, end in spans]
    touching: list[list[int]] = [[] for _ in spans]
    for token, (start, end) in enumerate(token_offsets):
        if start == end:
            continue
        span = bisect_right(ends, start)
        while span < len(spans) and spans[span][0] < end:
            touching[span].append(token)
            span += 1
    return touching


def _chosen(tokens: list[int], assign: Assign) -> list[int]:
    if assign == "last":
        return tokens[-1:]
    if assign == "first":
        return tokens[:1]
    return tokens


def _check(
    spans: Sequence[tuple[int, int]],
    rewards: Sequence[float],
    token_offsets: Sequence[tuple[int, int]],
    assign: str,
) -> None:
    if assign not in ASSIGNMENTS:
        raise ValueError(f"assign is {assign!r}: choose one of {', '.join(ASSIGNMENTS)}")
    if len(spans) != len(rewards):
        raise ValueError(f"{len(rewards)} rewards for {len(spans)} spans: give one per span")
    for start, end in spans:
        if not 0 <= start < end:
            raise ValueError(f"spans holds [{start}, {end}]: need 0 <= start < end")
    for (_, end), (start, _) in pairwise(spans):
        if start < end:
            raise ValueError(f"spans: one starts at {start} before {end}: sort, and do not overlap")
    for start, end in token_offsets:
        if not 0 <= start <= end:
            raise ValueError(f"token_offsets holds [{start}, {end}]: need 0 <= start <= end")
    for reward in rewards:
        if not math.isfinite(reward):
            raise ValueError(f"rewards holds {reward!r}: give finite numbers")
