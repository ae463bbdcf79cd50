"""Who asked a model for what, and what came of it. Knows asyncio's futures; runs nothing."""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sightline_service import tracing
from sightline_service.waiting import BatchLimits


class Work(Protocol):
    """What batches are made of."""

    @property
    def cost(self) -> int:
        """In the unit of the lane's `max_cost`."""
        ...

    @property
    def group(self) -> Hashable:
        """Only items of equal group may share a batch."""
        ...


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One batch as it ran: how many items of which cost, how long each waited, how long it took."""

    lane: str
    size: int
    cost: int
    waits_s: tuple[float, ...]
    forward_s: float
    retries: int


@dataclass(eq=False, slots=True)
class Kind:
    """One kind of work for a model.

    Attributes:
        name: names it in reports.
        forward: maps n items to n results, in order; runs on the owner thread alone.
        limits: bounds of one batch.
        expected: callers whose items are on their way; the batcher's lock guards it.
    """

    name: str
    forward: Callable[[Sequence[Any]], Sequence[Any]]
    limits: BatchLimits
    expected: "set[Call]" = field(default_factory=set["Call"])


@dataclass(eq=False, slots=True)
class Call:
    """One caller's wish: `done` when each of its entries has an outcome, or none ever will.

    An error is handed over beside the future, which would keep it; and whoever awaits the future
    is part of the error's traceback: they would keep each other, and the image that failed. So
    would a call and its entries, with what they were made of: who is done with them drops them.
    """

    kind: Kind
    done: asyncio.Future[None]
    trace: tracing.Trace | None
    entries: "Sequence[Entry]" = ()
    left: int = 0
    error: BaseException | None = None

    @classmethod
    def of(cls, kind: Kind) -> "Call":
        """Begins the running task's call."""
        return cls(kind, asyncio.get_running_loop().create_future(), tracing.current.get())

    def settle(self, n_more: int = 0) -> None:
        """Counts `n_more` outcomes, and ends the wait with the last."""
        self.left -= n_more
        if self.left == 0 and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Ends the wait with an error."""
        if not self.done.done():
            self.error = error
            self.done.set_result(None)

    def outcomes(self) -> list[Any]:
        """Returns, once, what came of each entry, in order; raises what the call failed with."""
        error, self.error = self.error, None
        entries, self.entries = self.entries, ()
        try:
            if error is not None:
                raise error
        finally:
            del error
        return [entry.outcome for entry in entries]


@dataclass(eq=False, slots=True)
class Entry:
    """One item of a call, which waits, or runs, or has its outcome."""

    call: Call
    item: Work
    since: float
    group: Hashable
    cost: int
    outcome: Any = field(default=None)

    @property
    def limits(self) -> BatchLimits:
        """The bounds of its batch."""
        return self.call.kind.limits

    @property
    def company_expected(self) -> bool:
        """Whether a batch may wait for more of its kind."""
        return bool(self.call.kind.expected)


def record_spans(batch: Sequence[Entry], report: BatchReport, started: float, ended: float) -> None:
    """Tells each request that is traced how long it waited for this batch, and the batch took."""
    since = {e.call.trace: e.since for e in reversed(batch) if e.call.trace is not None}
    for trace, waited_from in since.items():
        trace.record("queue", waited_from, started, lane=report.lane)
        trace.record("forward", started, ended, lane=report.lane, batch_size=report.size)
