"""BLEU against hand-computed cases; `test_caption_metrics` holds it against the published code."""

import math

import pytest

from sightline_eval.bleu import bleu, count_bleu


def words(text):
    return tuple(text.split())


def test_a_word_counts_no_more_often_than_in_the_reference_that_has_it_most():
    references = [words("the cat is on the mat"), words("there is a cat on the mat")]
    counts = count_bleu(words("the the the the the the the"), references)
    assert counts.correct == (2, 0, 0, 0)
    assert counts.total == (7, 6, 5, 4)
    assert bleu([counts], 1) == pytest.approx(2 / 7)
    assert bleu([counts], 2) == 0.0


def test_a_short_caption_pays_for_its_length():
    counts = [count_bleu(words("a b c d"), [words("a b c d e")])]
    for order in (1, 2, 3, 4):
        assert bleu(counts, order) == pytest.approx(math.exp(1 - 5 / 4))


def test_a_long_caption_pays_with_precision_alone():
    counts = [count_bleu(words("a b c d x"), [words("a b c d")])]
    assert bleu(counts, 1) == pytest.approx(4 / 5)
    assert bleu(counts, 2) == pytest.approx(math.sqrt(4 / 5 * 3 / 4))


def test_of_two_references_as_close_the_shorter_one_gives_the_length():
    assert count_bleu(words("a b c"), [words("a b c d"), words("a b")]).reference_length == 2


def test_the_set_is_scored_by_summed_counts():
    counts = [count_bleu(words("a b"), [words("a b")]), count_bleu(words("c d"), [words("c x")])]
    assert bleu(counts, 1) == pytest.approx(3 / 4)
    assert bleu(counts, 2) == pytest.approx(math.sqrt(3 / 4 * 1 / 2))


def test_an_empty_caption_scores_nothing():
    assert bleu([count_bleu((), [words("a b")])], 1) == 0.0
