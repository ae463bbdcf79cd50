import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_core.perplexity import mean_perplexity, perplexity, sentence_log_probs
from sightline_core.sentences import split_sentences

TEXT = "A dog runs. The cat sits."


def test_perplexity_by_hand():
    assert perplexity([math.log(0.5), math.log(0.125)]) == pytest.approx(4.0)
    assert perplexity([0.0, 0.0]) == 1.0
    assert perplexity([]) == 1.0
    assert mean_perplexity(math.log(0.5) + math.log(0.125), 2) == pytest.approx(4.0)


def test_perplexity_stays_finite():
    assert math.isfinite(perplexity([-1e9]))
    assert perplexity([-1e9]) == pytest.approx(sys.float_info.max, rel=1e-9)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_log_probability_that_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="log_probs holds a number that is not finite"):
        perplexity([value])
    with pytest.raises(ValueError, match="not finite"):
        sentence_log_probs(split_sentences("A."), [(0, 2)], [value])


def test_a_token_belongs_to_the_sentence_of_its_first_mark():
    offsets = [(0, 1), (1, 5), (5, 10), (10, 11), (11, 15), (15, 19), (19, 24), (24, 25), (25, 25)]
    sums = sentence_log_probs(split_sentences(TEXT), offsets, [-1.0 * 2**i for i in range(9)])
    assert sums == ((-15.0, 4), (-496.0, 5))


def test_tokens_of_space_and_empty_tokens_go_where_they_begin():
    sentences = split_sentences("Go.  Stay. ")
    offsets = [(0, 3), (3, 5), (3, 4), (5, 5), (5, 10), (10, 11), (0, 0), (11, 11), (40, 44)]
    sums = sentence_log_probs(sentences, offsets, [-1.0] * len(offsets))
    assert sums == ((-4.0, 4), (-5.0, 5))


def test_a_sentence_may_have_no_token():
    assert sentence_log_probs(split_sentences("Go. On."), [(0, 7)], [-2.0]) == ((-2.0, 1), (0.0, 0))


@given(st.text(max_size=60), st.data())
def test_the_sentences_sums_add_up_to_the_texts_and_every_token_is_counted_once(text, data):
    sentences = split_sentences(text + ".")
    place = st.integers(0, len(text) + 3)
    offsets = [
        tuple(sorted(pair)) for pair in data.draw(st.lists(st.tuples(place, place), max_size=30))
    ]
    log_probs = data.draw(st.lists(st.floats(-50, 0), min_size=len(offsets), max_size=len(offsets)))
    sums = sentence_log_probs(sentences, offsets, log_probs)
    assert len(sums) == len(sentences)
    assert sum(n for _, n in sums) == len(offsets)
    assert math.fsum(total for total, _ in sums) == pytest.approx(math.fsum(log_probs), abs=1e-9)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="1 log_probs for 2 token_offsets"):
        sentence_log_probs(split_sentences("A."), [(0, 1), (1, 2)], [-1.0])
    with pytest.raises(ValueError, match="without sentences"):
        sentence_log_probs((), [(0, 0)], [-1.0])
    assert sentence_log_probs((), [], []) == ()
