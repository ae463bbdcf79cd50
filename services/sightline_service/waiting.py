"""Who waits for a model, and who goes next together. Pure; knows no threads, asyncio or HTTP."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Protocol, TypeVar


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch may grow, and how long its first item may wait for company.

    A batch runs as one rectangle: its cost is its length times its dearest item.
    """

    max_items: int
    max_cost: int
    max_wait_s: float


class Queued(Protocol):
    """One unit of waiting work."""

    @property
    def group(self) -> Hashable:
        """Only entries of equal group may share a batch."""
        ...

    @property
    def cost(self) -> int:
        """In the unit of `BatchLimits.max_cost`."""
        ...

    @property
    def since(self) -> float:
        """When it began to wait: a monotonic time in seconds."""
        ...

    @property
    def limits(self) -> BatchLimits:
        """The bounds of its batch; equal within a group."""
        ...

    @property
    def company_expected(self) -> bool:
        """Whether more of its kind is known to be on the way."""
        ...


Entry = TypeVar("Entry", bound=Queued)


class WaitingRoom(Generic[Entry]):
    """First come, first served, in batches: the group with the oldest entry goes first."""

    def __init__(self) -> None:
        self._groups: dict[Hashable, dict[Entry, None]] = {}

    def __len__(self) -> int:
        """How many entries wait."""
        return sum(len(queue) for queue in self._groups.values())

    def add(self, entry: Entry) -> None:
        """Puts `entry` at the end of its group's queue."""
        self._groups.setdefault(entry.group, {})[entry] = None

    def discard(self, entry: Entry) -> None:
        """Takes `entry` out, if it still waits: its caller hung up."""
        queue = self._groups.get(entry.group, {})
        queue.pop(entry, None)
        if not queue:
            self._groups.pop(entry.group, None)

    def cut(self, now: float, *, flush: bool = False) -> list[Entry]:
        """Takes out the batch that should run now; empty if waiting is better or nothing waits.

        A group is due when its batch is full, when its first entry has waited `max_wait_s`, or
        when no company is on the way; with `flush`, always. Of several due groups the one with
        the oldest entry wins, so that no group starves.
        """
        due = [queue for queue in self._groups.values() if flush or _is_due(queue, now)]
        if not due:
            return []
        batch = _head(min(due, key=lambda queue: _first(queue).since))
        for entry in batch:
            self.discard(entry)
        return batch

    def next_deadline(self) -> float | None:
        """When `cut` will next yield a batch without further arrivals; None if nothing waits."""
        return min(map(_deadline, self._groups.values()), default=None)

    def empty(self) -> list[Entry]:
        """Takes out everybody."""
        everybody = [entry for queue in self._groups.values() for entry in queue]
        self._groups.clear()
        return everybody


def _is_due(queue: dict[Entry, None], now: float) -> bool:
    first = _first(queue)
    return not first.company_expected or now >= _deadline(queue) or _is_full(queue)


def _first(queue: dict[Entry, None]) -> Entry:
    return next(iter(queue))


def _deadline(queue: dict[Entry, None]) -> float:
    first = _first(queue)
    return first.since + first.limits.max_wait_s


def _head(queue: dict[Entry, None]) -> list[Entry]:
    """The longest run of first entries that fits the limits; at least one."""
    return list(_fitting(queue))


def _fitting(queue: dict[Entry, None]) -> Iterator[Entry]:
    limits = _first(queue).limits
    dearest = 0
    for length, entry in enumerate(islice(queue, limits.max_items), start=1):
        dearest = max(dearest, entry.cost)
        if length > 1 and length * dearest > limits.max_cost:
            return
        yield entry


def _is_full(queue: dict[Entry, None]) -> bool:
    length = len(_head(queue))
    return length < len(queue) or length == _first(queue).limits.max_items
