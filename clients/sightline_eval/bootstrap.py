"""Confidence intervals by resampling whole groups, such as images. Knows no metric."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Group = TypeVar("Group")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval; all three are None where it cannot be measured."""

    value: float | None
    low: float | None
    high: float | None

    def number(self) -> str:
        """The value with its interval: "0.932 [0.91, 0.95]"."""
        if self.value is None or self.low is None or self.high is None:
            return "not measurable"
        return f"{self.value:.3f} [{self.low:.2f}, {self.high:.2f}]"

    def difference(self) -> str:
        """A difference with its interval: "+0.042 [+0.01, +0.07]"."""
        if self.value is None or self.low is None or self.high is None:
            return "not measurable"
        return f"{self.value:+.3f} [{self.low:+.2f}, {self.high:+.2f}]"

    def share(self) -> str:
        """The same in per cent: "93.2% [91, 95]"."""
        if self.value is None or self.low is None or self.high is None:
            return "not measurable"
        return f"{self.value:.1%} [{100 * self.low:.0f}, {100 * self.high:.0f}]"


def estimate(
    groups: Sequence[Group],
    statistic: Callable[[Sequence[Group]], float | None],
    *,
    resamples: int = 500,
    seed: int = 0,
) -> Estimate:
    """The statistic over `groups` and its percentile bootstrap interval (2.5 % to 97.5 %).

    Groups are drawn with replacement and kept whole, so scores that share an image stay together:
    resampling single scores would make the interval too narrow.

    Args:
        groups: the independent units.
        statistic: the figure for a sample of groups, None where the sample does not define it
            (a class without members, say); such resamples are left out.
        resamples: how many samples are drawn.
        seed: makes the interval repeatable.
    """
    value = statistic(groups) if groups else None
    if value is None or not math.isfinite(value):
        return Estimate(None, None, None)
    rng = np.random.default_rng(seed)
    samples = (rng.integers(len(groups), size=len(groups)) for _ in range(resamples))
    drawn = (statistic([groups[i] for i in sample]) for sample in samples)
    # Where no resample defines the figure, the interval is the value itself.
    defined = [figure for figure in drawn if figure is not None] or [value]
    low, high = np.percentile(defined, (2.5, 97.5))
    return Estimate(value, float(low), float(high))
