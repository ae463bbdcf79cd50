"""How the figures are called and written. Knows text; measures nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sightline_eval.bootstrap import Estimate

Unit = Literal["%", "", "min"]
_SCALE: dict[Unit, float] = {"%": 100.0, "": 1.0, "min": 1 / 60}


@dataclass(frozen=True, slots=True)
class Column:
    """One figure: its heading, and how its numbers are written.

    Attributes:
        figure: as in `results`.
        heading: with the unit where it has one.
        unit: shares are written in per cent, seconds in minutes.
        digits: behind the point.
    """

    figure: str
    heading: str
    unit: Unit = "%"
    digits: int = 1

    def number(self, value: float | None) -> str:
        """A value; "-" where there is none."""
        return "-" if value is None else f"{self._scaled(value):.{self.digits}f}"

    def interval(self, estimate: Estimate) -> str:
        """The ends of an estimate's interval."""
        return "" if estimate.low is None else f"{self._pair(estimate.low, estimate.high)}"

    def signed(self, estimate: Estimate) -> str:
        """A change with its interval."""
        if estimate.value is None:
            return "-"
        sign = f"{self._scaled(estimate.value):+.{self.digits}f}"
        low, high = estimate.low, estimate.high
        if low is None or high is None:
            return sign
        ends = f"{self._scaled(low):+.{self.digits}f}, {self._scaled(high):+.{self.digits}f}"
        return f"{sign} [{ends}]"

    def spread(self, values: Sequence[float]) -> str:
        """The mean of some runs, and the smallest and largest where they differ."""
        if not values:
            return "-"
        mean = self.number(sum(values) / len(values))
        low, high = min(values), max(values)
        return mean if low == high else f"{mean} ({self._pair(low, high)})"

    def _pair(self, low: float, high: float | None) -> str:
        return f"{self.number(low)} to {self.number(high)}"

    def _scaled(self, value: float) -> float:
        return value * _SCALE[self.unit]


CAPTIONS = (
    Column("chair_s", "CHAIR_s %"),
    Column("chair_i", "CHAIR_i %"),
    Column("recall", "recall %"),
    Column("objects", "objects", "", 2),
    Column("words", "words", ""),
    Column("cider", "CIDEr", "", 2),
)
POPE = (
    Column("pope_f1", "POPE F1 %"),
    Column("pope_recall", "POPE recall %"),
    Column("pope_accuracy", "POPE accuracy %"),
)
COSTS = (
    Column("seconds", "minutes", "min"),
    Column("reward_share", "waiting for rewards %"),
)
