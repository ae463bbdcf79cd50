"""Rows of a batch as tensors, and back as arrays. Knows torch and numpy; knows no model."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray


def unit(features: torch.Tensor) -> torch.Tensor:
    """Returns the rows at length 1, in float32."""
    return torch.nn.functional.normalize(features.float(), dim=-1)


def rows_of(features: torch.Tensor) -> NDArray[np.float32]:
    """Returns the rows on the CPU."""
    rows: NDArray[np.float32] = features.cpu().numpy()
    assert rows.dtype == np.float32
    return rows


def n_weights(model: torch.nn.Module) -> int:
    """Returns how many numbers the model learned."""
    return sum(weight.numel() for weight in model.parameters())


def right_padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns ids and a mask of the real ones, both int64 of shape [n, longest]."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    real = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(real.shape, pad_id, np.int64)
    ids[real] = np.fromiter(chain.from_iterable(rows), np.int64, lengths.sum())
    return torch.from_numpy(ids), torch.from_numpy(real.astype(np.int64))
