"""CIDEr-D against hand-computed cases; `test_caption_metrics` has those of the published code."""

import math

import pytest

from sightline_eval.cider import cider


def words(text):
    return tuple(text.split())


TWO_IMAGES = [[words("a b")], [words("a c")]]  # idf: 0 for "a", log 2 for all else


def first_score(text):
    return cider([words(text), words("x")], TWO_IMAGES)[0]


def test_the_reference_itself_scores_one_for_each_length_of_runs_that_it_has():
    assert first_score("a b") == pytest.approx(10 * 2 / 4)  # runs of 1 and 2 words of 4 lengths


def test_what_all_references_say_is_worth_nothing():
    assert first_score("a") == 0.0


def test_a_difference_in_length_lowers_the_score():
    assert first_score("b") == pytest.approx(10 * 1 / 4 * math.exp(-1 / 72))
    assert first_score("b x x x") == pytest.approx(
        10 / 4 * (1 / math.sqrt(1 + 9)) * math.exp(-4 / 72)
    )


def test_repeating_a_word_earns_no_more_than_the_reference_says_it():
    assert first_score("b b") == pytest.approx(10 * (1 / 2) / 4)


def test_several_references_count_alike():
    references = [[words("a b"), words("x y")], [words("a c")]]
    assert cider([words("a b"), ()], references) == pytest.approx((10 * (2 / 4) / 2, 0.0))


def test_in_one_image_no_word_is_rare():
    assert cider([words("a b")], [[words("a b")]]) == (0.0,)


def test_a_perfect_long_caption_scores_ten():
    texts = [words("the red kite in the sky"), words("a dog on green grass")]
    assert cider(texts, [[text] for text in texts]) == pytest.approx((10.0, 10.0))
