"""How well scores separate two classes: AUROC and paired accuracy. Knows numpy only."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def auroc(positives: ArrayLike, negatives: ArrayLike) -> float:
    """The probability that a positive scores above a negative, a tie counting one half.

    This is the area under the ROC curve, from the rank sum (Mann-Whitney U with mean ranks).

    Args:
        positives: scores of the class that should score higher, shape (n,), n >= 1.
        negatives: scores of the other class, shape (m,), m >= 1.

    Raises:
        ValueError: a class is empty, or a score is not finite.
    """
    high, low = _scores("positives", positives), _scores("negatives", negatives)
    _, group, counts = np.unique(
        np.concatenate([high, low]), return_inverse=True, return_counts=True
    )
    last_rank = np.cumsum(counts)
    mean_rank = last_rank - (counts - 1) / 2
    rank_sum = float(mean_rank[group[: high.size]].sum())
    return (rank_sum - high.size * (high.size + 1) / 2) / (high.size * low.size)


def paired_accuracy(better: Sequence[float], worse: Sequence[float]) -> float:
    """The share of pairs in which `better[i]` > `worse[i]`, a tie counting one half.

    Raises:
        ValueError: there is no pair, the lengths differ, or a score is not finite.
    """
    high, low = _scores("better", better), _scores("worse", worse)
    if high.size != low.size:
        raise ValueError(f"better has {high.size} scores, worse {low.size}: they pair one to one")
    return float(np.mean((high > low) + 0.5 * (high == low)))


def _scores(name: str, values: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or scores.size == 0:
        raise ValueError(f"{name} needs at least one score, got an array of shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{name} holds a score that is not finite: drop or repair it first")
    return scores
