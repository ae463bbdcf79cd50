"""Rows of a batch as tensors, and back as arrays. Knows torch and numpy; knows no model."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def unit(features: torch.Tensor) -> torch.Tensor:
    """Returns the rows at length 1, in float32."""
    return torch.nn.functional.normalize(features.float(), dim=-1)


def rows_of(features: torch.Tensor) -> NDArray[np.float32]:
    """Returns the rows on the CPU, in numpy's own memory.

    Whoever drops the last reference to torch's gives Python's lock away for it.
    """
    rows: NDArray[np.float32] = features.numpy(force=True).copy()
    assert rows.dtype == np.float32
    return rows


def on_device(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Returns the array as a tensor on the device: on the CPU itself, in the same memory."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.to(device)


def n_weights(model: torch.nn.Module) -> int:
    """Returns how many numbers the model learned."""
    return sum(weight.numel() for weight in model.parameters())


def right_padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns ids and a mask of the real ones, both int64 of shape [n, longest]."""
    return torch.from_numpy(padded(rows, pad_id)), torch.from_numpy(_real(rows).astype(np.int64))


def padded(rows: Sequence[Sequence[int]], pad_id: int) -> NDArray[np.int64]:
    """Returns the ids of `right_padded`."""
    real = _real(rows)
    ids = np.full(real.shape, pad_id, np.int64)
    ids[real] = np.fromiter(chain.from_iterable(rows), np.int64, np.count_nonzero(real))
    return ids


def _real(rows: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return _positions(int(lengths.max())) < lengths[:, None]


@lru_cache(maxsize=1024)
def _positions(length: int) -> NDArray[np.int64]:
    """Kept, as numpy gives Python's lock away to count."""
    return np.arange(length)
