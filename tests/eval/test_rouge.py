"""ROUGE-L against hand-computed cases and a slow reference."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_eval.rouge import rouge_l

TEXTS = st.lists(st.sampled_from("abc"), min_size=1, max_size=7).map(tuple)


@cache
def common(first, second):
    if not first or not second:
        return 0
    if first[0] == second[0]:
        return 1 + common(first[1:], second[1:])
    return max(common(first[1:], second), common(first, second[1:]))


@given(TEXTS, TEXTS)
def test_one_reference_gives_the_f_score_of_the_longest_common_subsequence(first, second):
    length = common(first, second)
    p, r = length / len(first), length / len(second)
    expected = 2.44 * p * r / (r + 1.44 * p) if length else 0.0
    assert rouge_l(first, [second]) == pytest.approx(expected)


def test_precision_and_recall_may_come_from_two_references():
    references = [tuple("ac"), tuple("abcxyzwv")]  # P .5, R 1; P .75, R .375
    assert rouge_l(tuple("abcd"), references) == pytest.approx(2.44 * 0.75 / (1 + 1.44 * 0.75))


def test_nothing_in_common_or_nothing_said_scores_zero():
    assert rouge_l(tuple("ab"), [tuple("cd")]) == 0.0
    assert rouge_l((), [tuple("cd")]) == 0.0
    assert rouge_l(tuple("ab"), [()]) == 0.0
