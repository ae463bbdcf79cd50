"""Rows of unlike lengths as one rectangle."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from sightline_service.models.tensors import on_device, right_padded, rows_of

ROWS = st.lists(st.lists(st.integers(0, 2**40), max_size=9), min_size=1, max_size=9)


@given(rows=ROWS, pad_id=st.integers(0, 9))
def test_rows_are_filled_up_at_their_right_ends(rows, pad_id):
    ids, mask = right_padded(rows, pad_id)
    longest = max(map(len, rows))
    assert ids.tolist() == [row + [pad_id] * (longest - len(row)) for row in rows]
    assert mask.tolist() == [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    assert ids.dtype == mask.dtype == torch.int64
    assert ids.shape == mask.shape == (len(rows), longest)


def test_rows_are_in_memory_of_their_own_and_inputs_in_the_callers():
    features = torch.ones(2, 3)
    rows = rows_of(features)
    features[0] = 7
    assert rows.tolist() == [[1, 1, 1], [1, 1, 1]]
    array = np.zeros(3)
    tensor = on_device(array, torch.device("cpu"))
    array[1] = 5
    assert tensor.tolist() == [0, 5, 0]
