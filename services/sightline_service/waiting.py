"""Who waits for a model, and who goes next together. Pure; knows no threads, asyncio or HTTP."""

from collections.abc import Hashable
from dataclasses import dataclass, field
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


@dataclass(eq=False, slots=True)
class _Queue(Generic[Entry]):
    """The entries of one group in order; the first `fitting` of them, `dearest` at most, fit."""

    limits: BatchLimits
    entries: dict[Entry, None] = field(default_factory=dict[Entry, None])
    fitting: int = 0
    dearest: int = 0
    full: bool = False

    @property
    def first(self) -> Entry:
        return next(iter(self.entries))

    @property
    def deadline(self) -> float:
        return self.first.since + self.limits.max_wait_s

    def add(self, entry: Entry) -> None:
        self.entries[entry] = None
        if not self.full:
            self._count(entry)

    def discard(self, entry: Entry) -> None:
        if entry in self.entries:
            del self.entries[entry]
            self._recount()

    def cut(self) -> list[Entry]:
        """Takes out the longest run of first entries that fits the limits; at least one."""
        batch = [*islice(self.entries, self.fitting)]
        for entry in batch:
            del self.entries[entry]
        self._recount()
        return batch

    def is_due(self, now: float) -> bool:
        return self.full or not self.first.company_expected or now >= self.deadline

    def _recount(self) -> None:
        self.fitting, self.dearest, self.full = 0, 0, False
        for entry in self.entries:
            self._count(entry)
            if self.full:
                return

    def _count(self, entry: Entry) -> None:
        dearest = max(self.dearest, entry.cost)
        if self.fitting and (self.fitting + 1) * dearest > self.limits.max_cost:
            self.full = True
            return
        self.fitting += 1
        self.dearest = dearest
        self.full = self.fitting == self.limits.max_items


class WaitingRoom(Generic[Entry]):
    """First come, first served, in batches: the group with the oldest entry goes first."""

    def __init__(self) -> None:
        self._groups: dict[Hashable, _Queue[Entry]] = {}

    def __len__(self) -> int:
        """How many entries wait."""
        return sum(len(queue.entries) for queue in self._groups.values())

    def add(self, entry: Entry) -> None:
        """Puts `entry` at the end of its group's queue."""
        queue = self._groups.get(entry.group)
        if queue is None:
            queue = self._groups[entry.group] = _Queue(entry.limits)
        queue.add(entry)

    def discard(self, entry: Entry) -> None:
        """Takes `entry` out, if it still waits: its caller hung up."""
        queue = self._groups.get(entry.group)
        if queue is not None:
            queue.discard(entry)
            self._drop_if_empty(entry.group, queue)

    def cut(self, now: float, *, flush: bool = False) -> list[Entry]:
        """Takes out the batch that should run now; empty if waiting is better or nothing waits.

        A group is due when its batch is full, when its first entry has waited `max_wait_s`, or
        when no company is on the way; with `flush`, always. Of several due groups the one with
        the oldest entry wins, so that no group starves.
        """
        due = [queue for queue in self._groups.values() if flush or queue.is_due(now)]
        if not due:
            return []
        queue = min(due, key=lambda queue: queue.first.since)
        batch = queue.cut()
        self._drop_if_empty(batch[0].group, queue)
        return batch

    def is_due(self, now: float) -> bool:
        """Whether `cut` yields a batch."""
        return any(queue.is_due(now) for queue in self._groups.values())

    def next_deadline(self) -> float | None:
        """When `cut` will next yield a batch without further arrivals; None if nothing waits."""
        return min((queue.deadline for queue in self._groups.values()), default=None)

    def empty(self) -> list[Entry]:
        """Takes out everybody."""
        everybody = [entry for queue in self._groups.values() for entry in queue.entries]
        self._groups.clear()
        return everybody

    def _drop_if_empty(self, group: Hashable, queue: _Queue[Entry]) -> None:
        if not queue.entries:
            del self._groups[group]
