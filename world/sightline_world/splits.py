"""Disjoint random streams for train, calibration, validation and test.

Knows seeds; knows nothing of scenes.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

Split = Literal["train", "calibration", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

Purpose = Literal["scene", "caption", "absent", "question"]
_PURPOSES: tuple[Purpose, ...] = get_args(Purpose)

_ROOT = 20_261_120  # the entropy shared by every stream; changing it makes another world


def stream(
    split: Split, index: int, *, purpose: Purpose = "scene", seed: int = 0
) -> np.random.Generator:
    """The generator that belongs to item ``index`` of ``split`` and to nothing else.

    Streams of different splits, indices, purposes and seeds are independent (NumPy's
    ``SeedSequence`` spawn keys), so any item can be made again alone.

    Raises ``ValueError`` for an unknown split or a negative index or seed.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; use one of {', '.join(SPLITS)}")
    if index < 0 or seed < 0:
        raise ValueError(f"index and seed must be >= 0, got index={index}, seed={seed}")
    key = (SPLITS.index(split), _PURPOSES.index(purpose), seed, index)
    return np.random.default_rng(np.random.SeedSequence(_ROOT, spawn_key=key))
