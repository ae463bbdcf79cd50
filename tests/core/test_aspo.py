import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_core.aspo import min_max, normalized_perplexities


def test_min_max_by_hand():
    assert min_max([20.0, 30.0, 25.0]) == (0.0, 1.0, 0.5)
    assert min_max([]) == ()
    assert min_max([0.0, 5e-324]) == (0.0, 1.0)
    assert min_max([-1.7e308, 1.7e308, 0.0]) == (0.0, 1.0, 0.5)


def test_equal_values_are_all_nought():
    assert min_max([3.0, 3.0, 3.0]) == (0.0, 0.0, 0.0)
    assert min_max([7.0]) == (0.0,)
    assert normalized_perplexities([7.0]) == (0.0,)


def test_the_least_surprising_sentence_gets_one():
    assert normalized_perplexities([2.0, 10.0, 4.0]) == (1.0, 0.0, 0.75)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=30))
def test_values_lie_between_nought_and_one_and_keep_their_order(values):
    scaled = min_max(values)
    assert all(0 <= value <= 1 for value in scaled)
    if min(values) < max(values):
        assert scaled[values.index(min(values))] == 0
        assert scaled[values.index(max(values))] == 1
    pairs = sorted(zip(values, scaled, strict=True))
    assert [value for _, value in pairs] == sorted(scaled)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="not finite"):
        min_max([1.0, value])
