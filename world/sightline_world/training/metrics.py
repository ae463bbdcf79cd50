"""Figures that the model cards quote: AUROC, CHAIR, overlap. Knows NumPy; knows no model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sightline_world.captions import mentioned
from sightline_world.scenes import Layout

Floats = npt.NDArray[np.floating]


def auroc(positives: Floats, negatives: Floats) -> float:
    """P(a positive scores above a negative), ties counted half (Mann-Whitney U)."""
    scores = np.concatenate([positives, negatives])
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n = len(positives)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(negatives)))


def paired(positives: Floats, negatives: Floats) -> float:
    """Share of pairs whose positive scores higher, ties counted half."""
    return float(np.mean((positives > negatives) + 0.5 * (positives == negatives)))


@dataclass(frozen=True, slots=True)
class Chair:
    """CHAIR (Rohrbach et al. 2018) and recall in per cent; objects and sentences per caption."""

    chair_s: float
    chair_i: float
    recall: float
    objects: float
    sentences: float


def chair(captions: Sequence[str], layouts: Sequence[Layout]) -> Chair:
    """CHAIR of captions against the scenes they describe, distinct categories counted once each."""
    said = [set(mentioned(text)) for text in captions]
    there = [set(layout.names) for layout in layouts]
    wrong = [named - present for named, present in zip(said, there, strict=True)]
    right = [named & present for named, present in zip(said, there, strict=True)]
    return Chair(
        chair_s=100 * float(np.mean([bool(names) for names in wrong])),
        chair_i=100 * _total(wrong) / max(1, _total(said)),
        recall=100 * _total(right) / _total(there),
        objects=_total(said) / len(said),
        sentences=float(np.mean([text.count(".") for text in captions])),
    )


def _total(sets: Iterable[set[str]]) -> int:
    return sum(len(names) for names in sets)


def iou(a: Floats, b: Floats) -> Floats:
    """Pairwise intersection over union of boxes (x1, y1, x2, y2): (n, 4) and (m, 4) to (n, m)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = ((box[:, 2:] - box[:, :2]).prod(-1) for box in (a, b))
    first, second = areas
    return np.asarray(shared / np.maximum(first[:, None] + second[None, :] - shared, 1e-9))
