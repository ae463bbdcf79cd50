"""Rows of unlike lengths as one rectangle."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from sightline_service.models.tensors import right_padded

ROWS = st.lists(st.lists(st.integers(0, 2**40), max_size=9), min_size=1, max_size=9)


@given(rows=ROWS, pad_id=st.integers(0, 9))
def test_rows_are_filled_up_at_their_right_ends(rows, pad_id):
    ids, mask = right_padded(rows, pad_id)
    longest = max(map(len, rows))
    assert ids.tolist() == [row + [pad_id] * (longest - len(row)) for row in rows]
    assert mask.tolist() == [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    assert ids.dtype == mask.dtype == torch.int64
    assert ids.shape == mask.shape == (len(rows), longest)
