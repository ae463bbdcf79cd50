"""Separation figures against brute force."""

import math
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_eval.roc import auroc, paired_accuracy

SCORES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=20)


def compare(a: float, b: float) -> float:
    return 1.0 if a > b else 0.5 if a == b else 0.0


def test_auroc_of_a_hand_computed_case():
    # pairs won: 3>1, 3>2, 2>1, one tie 2=2 -> (3 + 0.5) / 4
    assert auroc([3, 2], [1, 2]) == 0.875


@settings(deadline=None)
@given(SCORES, SCORES)
def test_auroc_is_the_share_of_pairs_in_order(positives, negatives):
    pairs = [compare(a, b) for a, b in product(positives, negatives)]
    assert math.isclose(auroc(positives, negatives), sum(pairs) / len(pairs), abs_tol=1e-12)


@settings(deadline=None)
@given(SCORES, SCORES)
def test_auroc_of_swapped_classes_is_the_complement(positives, negatives):
    assert math.isclose(auroc(positives, negatives), 1 - auroc(negatives, positives), abs_tol=1e-12)


@settings(deadline=None)
@given(SCORES, SCORES)
def test_auroc_sees_ranks_only(positives, negatives):
    stretched = ([math.exp(x) for x in positives], [math.exp(x) for x in negatives])
    assert math.isclose(auroc(positives, negatives), auroc(*stretched), abs_tol=1e-12)


def test_auroc_refuses_an_empty_class_and_a_score_that_is_no_number():
    with pytest.raises(ValueError, match="negatives needs at least one score"):
        auroc([1.0], [])
    with pytest.raises(ValueError, match="positives holds a score that is not finite"):
        auroc([math.nan], [1.0])


def test_paired_accuracy_counts_a_tie_as_one_half():
    assert paired_accuracy([3, 1, 2, 0], [1, 1, 3, -1]) == (1 + 0.5 + 0 + 1) / 4


def test_paired_accuracy_needs_one_of_each():
    with pytest.raises(ValueError, match="better has 2 scores, worse 1"):
        paired_accuracy([1.0, 2.0], [1.0])
