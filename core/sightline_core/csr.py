"""CSR's calibrated reward of sibling sentences (Eq. 2-3). Pure; knows no model."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, get_args

from sightline_core.aspo import min_max

Mode = Literal["rank", "minmax", "raw"]
MODES: tuple[Mode, ...] = get_args(Mode)
_NEUTRAL = 0.5  # where siblings cannot be told apart


def image_reward(cosine: float) -> float:
    """R_I = max(100 * cosine, 0) (CSR, Eq. 2)."""
    return max(100.0 * cosine, 0.0)


def combine(
    language_scores: Sequence[float],
    image_scores: Sequence[float],
    *,
    weight: float = 0.9,
    mode: Mode = "rank",
) -> tuple[float, ...]:
    """The calibrated score of each sibling, higher is better: weight * R_I + (1 - weight) * R_T.

    Args:
        language_scores: R_T per sibling, higher is better (a mean log-probability).
        image_scores: R_I per sibling.
        weight: CSR's lambda in [0, 1], the image's share.
        mode: how both are brought to one scale: "rank" among the siblings (1 the best, 0 the
            worst, ties averaged, an only child 0.5), "minmax" (all equal 0.5), or "raw", the
            paper's Eq. 3 as printed.

    Raises:
        ValueError: unequal lengths, a number that is not finite, weight or mode out of range.
    """
    if len(language_scores) != len(image_scores):
        raise ValueError(
            f"{len(language_scores)} language_scores for {len(image_scores)} image_scores: "
            "give one of each per sibling"
        )
    if not 0 <= weight <= 1:
        raise ValueError(f"weight is {weight!r}: give a number from 0 to 1")
    _check_finite("language_scores", language_scores)
    _check_finite("image_scores", image_scores)
    return tuple(
        weight * image + (1 - weight) * language
        for language, image in zip(
            _scaled(language_scores, mode), _scaled(image_scores, mode), strict=True
        )
    )


def _check_finite(name: str, values: Sequence[float]) -> None:
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{name} holds a number that is not finite: remove it")


def _scaled(values: Sequence[float], mode: Mode) -> Sequence[float]:
    if mode == "raw":
        return values
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}: choose one of {', '.join(MODES)}")
    if len(set(values)) <= 1:
        return (_NEUTRAL,) * len(values)
    return _ranked(values) if mode == "rank" else min_max(values)


def _ranked(values: Sequence[float]) -> tuple[float, ...]:
    """1 - (position - 1) / (n - 1), position 1 the highest; equal values share their mean."""
    positions: defaultdict[float, list[int]] = defaultdict(list)
    for position, value in enumerate(sorted(values, reverse=True)):
        positions[value].append(position)
    last = len(values) - 1
    return tuple(1 - sum(positions[v]) / len(positions[v]) / last for v in values)
