"""METEOR's alignment against an exhaustive search."""

from itertools import combinations, permutations

from hypothesis import given
from hypothesis import strategies as st

from sightline_eval.word_alignment import EXACT, STEM, align

TEXTS = st.lists(st.sampled_from(["cat", "cats", "dog", "red"]), max_size=5).map(tuple)
WORTH = {("cat", "cats"): STEM, ("cats", "cat"): STEM}


def worth(a, b):
    return EXACT if a == b else WORTH.get((a, b), 0.0)


def every_alignment(first, second):
    for size in range(min(len(first), len(second)) + 1):
        for left in combinations(range(len(first)), size):
            for right in permutations(range(len(second)), size):
                pairs = list(zip(left, right, strict=True))
                if all(worth(first[i], second[j]) for i, j in pairs):
                    yield pairs


def rank(pairs, first, second):
    chunks = sum((i - 1, j - 1) not in pairs for i, j in pairs)
    value = round(sum(worth(first[i], second[j]) for i, j in pairs), 6)
    return -value, chunks, sum(abs(i - j) for i, j in pairs)


@given(TEXTS, TEXTS)
def test_the_alignment_is_the_best_of_all(first, second):
    found = align(first, second)
    best = min(rank(pairs, first, second) for pairs in every_alignment(first, second))
    pairs = [(match.i, match.j) for match in found.matches]
    assert rank(pairs, first, second) == best
    assert found.chunks == best[1]
    assert len({j for _, j in pairs}) == len(pairs)


def test_equal_words_are_worth_more_than_equal_stems():
    alignment = align(("cats", "x", "y", "cat"), ("z", "cat"))
    assert [(match.i, match.j, match.worth) for match in alignment.matches] == [(3, 1, EXACT)]
