"""Vocabularies of any size for the measure of growth."""

import pytest

from sightline_bench.growth import entities, vocabulary_of
from sightline_core.entities import find_spans


@pytest.mark.parametrize("size", [1, 60, 10_000])
def test_a_vocabulary_has_the_size_asked_for_and_knows_dogs(size):
    vocabulary = vocabulary_of(size)
    assert len(vocabulary.forms) == size
    assert {span.entity for span in find_spans("A dog.", vocabulary)} == {"dog"}


def test_there_is_a_row_for_each_size():
    head, *rows = entities()
    assert head.count("\n") == 2
    assert len(rows) == 5
