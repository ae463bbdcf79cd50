"""ASPO's min-max normalisation of a response's sentence scores. Pure; knows no model."""

import math
from collections.abc import Sequence


def min_max(values: Sequence[float]) -> tuple[float, ...]:
    """Each value's place between the smallest (0) and the largest (1); all equal gives all 0 (S').

    Raises:
        ValueError: a value is not finite.
    """
    if not all(map(math.isfinite, values)):
        raise ValueError("values holds a number that is not finite: remove it")
    if not values:
        return ()
    low, high = min(values), max(values)
    if low == high:
        return (0.0,) * len(values)
    scale = 1.0 if math.isfinite(high - low) else 0.5  # the range of finite numbers may be infinite
    low, width = scale * low, scale * high - scale * low
    return tuple((scale * value - low) / width for value in values)


def normalized_perplexities(perplexities: Sequence[float]) -> tuple[float, ...]:
    """PPL' of ASPO: the least surprising sentence gets 1, the most surprising 0; all equal all 0.

    Raises:
        ValueError: a perplexity is not finite.
    """
    return min_max([-perplexity for perplexity in perplexities])
