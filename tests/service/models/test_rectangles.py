"""Rows in rectangles: each row once, and never dearer than any other way to cut them."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from sightline_service.models.rectangles import rectangles


def cost(lengths, parts, overhead):
    padded = sum(len(part) * max(lengths[place] for place in part) for part in parts)
    return padded + overhead * len(parts)


def all_ways(n_rows):
    """Every way to name rows' rectangles, often under several names."""
    for names in product(range(n_rows), repeat=n_rows):
        yield [[n for n in range(n_rows) if names[n] == name] for name in set(names)]


def test_one_long_row_has_a_rectangle_of_its_own():
    assert rectangles([10, 100, 10, 12], overhead=50) == [[1], [0, 2, 3]]


def test_rows_of_about_one_length_stay_together_in_their_order():
    assert rectangles([12, 10, 11], overhead=3) == [[0, 1, 2]]
    assert rectangles([12, 10, 11], overhead=0) == [[0], [2], [1]]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 30))
def test_no_other_way_costs_less_and_every_row_occurs_once(lengths, overhead):
    parts = rectangles(lengths, overhead=overhead)
    assert sorted(place for part in parts for place in part) == list(range(len(lengths)))
    least = min(cost(lengths, way, overhead) for way in all_ways(len(lengths)))
    assert cost(lengths, parts, overhead) == least


@given(st.lists(st.integers(1, 2000), min_size=64, max_size=64))
def test_a_full_batch_wastes_less_than_one_rectangle_would(lengths):
    parts = rectangles(lengths, overhead=128)
    assert cost(lengths, parts, 128) <= 64 * max(lengths) + 128
