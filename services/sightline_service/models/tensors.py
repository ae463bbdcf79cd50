"""Rows of a batch as tensors, and back as arrays. Knows torch and numpy; knows no model."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray


def unit_rows(features: torch.Tensor) -> NDArray[np.float32]:
    """Returns the rows at length 1, computed in float32, on the CPU."""
    rows = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
    assert rows.dtype == np.float32
    return rows


def right_padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns ids and a mask of the real ones, both int64 of shape [n, longest]."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask
