"""Which rows each process takes at each step. Knows numbers alone.

A place is a position in the whole run: rows in order, epoch after epoch. Seeds derive from places,
so that what happens to a row does not depend on how many processes share the work.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The order of a run: shuffled anew in each epoch, the rest of an epoch left out.

    Attributes:
        n_rows: rows of the data.
        batch: rows of one step in one process.
        epochs: passes over the data.
        max_steps: stop earlier.
        seed: the run's seed.
        rank: this process.
        n_processes: all of them.

    Raises:
        ValueError: one step needs more rows than there are.
    """

    n_rows: int
    batch: int
    epochs: int
    max_steps: int | None
    seed: int
    rank: int
    n_processes: int

    def __post_init__(self) -> None:
        """Refuses a run without a step."""
        if self.steps_per_epoch < 1:
            raise ValueError(
                f"{self.n_rows} rows are fewer than the {self.batch * self.n_processes} of one "
                "step in all processes: give more rows, or take fewer per step"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole steps of one pass."""
        return self.n_rows // (self.batch * self.n_processes)

    @property
    def n_steps(self) -> int:
        """Steps of the whole run."""
        steps = self.epochs * self.steps_per_epoch
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def places(self, step: int) -> range:
        """This process's places in step 0, 1, .."""
        start = (step * self.n_processes + self.rank) * self.batch
        return range(start, start + self.batch)

    def row(self, place: int) -> int:
        """The row at a place."""
        epoch, position = divmod(place, self.steps_per_epoch * self.batch * self.n_processes)
        return shuffled(self.n_rows, self.seed, epoch)[position]


def shuffled(count: int, *parts: int) -> Sequence[int]:
    """The numbers below `count` in an order that follows from the parts."""
    order: list[int] = np.random.default_rng(parts).permutation(count).tolist()
    return order


def derived_seed(*parts: int) -> int:
    """A seed below 2**63 that follows from the parts, far from those of other parts."""
    digest = hashlib.sha256(",".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
