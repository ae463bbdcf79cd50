"""Training targets of a pool as arrays: presence, hard-negative weights, patch labels.

Knows NumPy, no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sightline_world.categories import INDEX, NAMES
from sightline_world.scenes import SIZE, Layout, absent_weights
from sightline_world.training.pool import MODEL_SIZE, Pool

PATCH = 12  # pixels of the model view
GRID = MODEL_SIZE // PATCH
BACKGROUND = len(NAMES)


@dataclass(frozen=True, slots=True)
class Targets:
    """``present`` (N, 67) in {0, 1}.

    ``likely`` (N, 67), the hard-absent distribution; ``patches`` (N, 64).
    """

    present: npt.NDArray[np.float32]
    likely: npt.NDArray[np.float32]
    patches: npt.NDArray[np.int64]


def targets(pool: Pool) -> Targets:
    """The targets of every scene of a pool, in its order."""
    return Targets(
        present=np.stack([presence(layout) for layout in pool.layouts]),
        likely=np.stack([absent_weights(layout) for layout in pool.layouts]).astype(np.float32),
        patches=np.stack([patch_labels(layout) for layout in pool.layouts]),
    )


def presence(layout: Layout) -> npt.NDArray[np.float32]:
    """1 where a category is in the scene, shape (67,)."""
    row = np.zeros(len(NAMES), dtype=np.float32)
    row[[INDEX[name] for name in layout.names]] = 1
    return row


def patch_labels(layout: Layout) -> npt.NDArray[np.int64]:
    """The category whose box holds the centre of each patch, row by row, or ``BACKGROUND``.

    Shape (64,).
    """
    centres = (np.arange(GRID) + 0.5) * SIZE / GRID
    labels = np.full((GRID, GRID), BACKGROUND, dtype=np.int64)
    for thing in layout.objects:
        x1, y1, x2, y2 = thing.box
        rows, columns = (centres > y1) & (centres < y2), (centres > x1) & (centres < x2)
        labels[np.ix_(rows, columns)] = INDEX[thing.name]
    return labels.reshape(-1)
