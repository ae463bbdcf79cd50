"""Dynamic batching on one thread per model. Knows asyncio and threads; not HTTP, torch or pydantic.

Life of an entry: a caller on the event loop submits it; it waits in the `WaitingRoom`; the
model's owner thread, whenever it is free, cuts the next batch itself (no round trip through the
event loop lies between two batches) and runs `forward`; the outcomes go back to the loop in one
hop. Everything before `forward` (decoding, resizing, tokenising) and after it happens elsewhere,
so that it overlaps with the batch on the device.
"""

import asyncio
import logging
import math
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

from sightline_service import tracing
from sightline_service.errors import BatcherClosedError, ResultCountError, WorkerDiedError
from sightline_service.fairness import FairPlaces
from sightline_service.waiting import BatchLimits, WaitingRoom

log = logging.getLogger(__name__)

_REST_AFTER_S = 0.5

WorkerState = Literal["new", "ready", "stalled", "dead", "closed"]


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


Item = TypeVar("Item", bound=Work)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One batch as it ran: how many items of which cost, how long each waited, how long it took."""

    lane: str
    size: int
    cost: int
    waits_s: tuple[float, ...]
    forward_s: float
    retries: int


Observer = Callable[[BatchReport], None]


@dataclass(eq=False, slots=True)
class _Call:
    """One `submit`: done when each of its entries has an outcome."""

    done: asyncio.Future[None]
    left: int


@dataclass(eq=False, slots=True)
class _Entry:
    lane: "Lane[Any, Any]"
    item: Work
    call: _Call
    since: float
    group: Hashable
    cost: int
    trace: tracing.Trace | None
    outcome: Any = field(default=None)

    @property
    def limits(self) -> BatchLimits:
        return self.lane.limits

    @property
    def company_expected(self) -> bool:
        return self.lane.expected > 0


class Lane(Generic[Item, Result]):
    """One kind of work for a model, such as its images or its texts.

    Args:
        name: names the lane in reports.
        forward: maps n items to n results, in order; runs on the owner thread alone.
        limits: bounds of one batch.

    `expected` counts the submits that are on their way; the batcher's lock guards it.
    """

    def __init__(
        self,
        batcher: "DynamicBatcher",
        name: str,
        forward: Callable[[Sequence[Item]], Sequence[Result]],
        limits: BatchLimits,
    ) -> None:
        self.name = name
        self.forward = forward
        self.limits = limits
        self.expected = 0
        self._ahead = FairPlaces(2 * limits.max_items)
        self._batcher = batcher

    async def submit(self, items: Sequence[Item]) -> list[Result | Exception]:
        """Returns, per item, its result or the exception that `forward` raised for it.

        Raises:
            BatcherClosedError: the batcher stops and takes nothing new.
            WorkerDiedError: the owner thread is gone.
        """
        entries = self._batcher.enqueue(self, items)
        self._batcher.wake()
        return await self._outcomes(entries)

    async def prepare_and_submit(
        self, prepare: Callable[[], Awaitable[Sequence[Item]]]
    ) -> list[Result | Exception]:
        """Like `submit`, for items still to be prepared: a batch may wait for them.

        Preparation runs at most two batches ahead of the device, so that what is prepared and
        waits takes a bounded amount of memory; callers who compete for that get turns.
        """
        async with self._ahead.place():
            self._batcher.expect(self)
            try:
                entries = self._batcher.enqueue(self, await prepare())
            finally:
                self._batcher.expect_no_more(self)
            return await self._outcomes(entries)

    async def _outcomes(self, entries: Sequence[_Entry]) -> list[Result | Exception]:
        if not entries:
            return []
        try:
            await entries[0].call.done
        except asyncio.CancelledError:
            self._batcher.discard(entries)
            raise
        return [entry.outcome for entry in entries]


class DynamicBatcher:
    """Runs the lanes of one model on one thread, which alone touches the model.

    The thread never idles while work waits, except that it lets a burst gather: when more items
    are known to be on their way, a batch waits for them, at most its lane's `max_wait_s`.

    A failed batch of several is halved and its halves are run again. So a batch that exhausts the
    device's memory is served in smaller pieces, a poisonous item fails alone, and each failure
    has one caller and its own exception. Nobody waits for ever: when the thread ends, for
    whatever reason, everybody still waiting is told.

    Args:
        name: the model's role; names the thread.
        observe: called on the owner thread after each batch.
        rest: called on the owner thread when nothing has come for half a second.
        stalled_after_s: a forward that takes longer makes `state` "stalled".
    """

    def __init__(
        self,
        name: str,
        *,
        observe: Observer = lambda report: None,
        rest: Callable[[], None] = lambda: None,
        stalled_after_s: float = 300.0,
    ) -> None:
        self.name = name
        self._observe = observe
        self._rest = rest
        self._stalled_after_s = stalled_after_s
        self._room: WaitingRoom[_Entry] = WaitingRoom()
        self._changed = threading.Condition()
        self._sleeps_until = -math.inf
        self._closing = False
        self._dead = False
        self._running: list[_Entry] = []
        self._running_since: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name=f"{name}-owner", daemon=True)

    def lane(
        self,
        name: str,
        forward: Callable[[Sequence[Item]], Sequence[Result]],
        limits: BatchLimits,
    ) -> Lane[Item, Result]:
        """Adds a kind of work; lanes share the thread and never a batch."""
        return Lane(self, name, forward, limits)

    @property
    def state(self) -> WorkerState:
        """Where the owner thread stands."""
        if self._dead:
            return "dead"
        if self._closing:
            return "closed"
        if self._loop is None:
            return "new"
        since = self._running_since
        stalled = since is not None and time.monotonic() - since > self._stalled_after_s
        return "stalled" if stalled else "ready"

    @property
    def waiting(self) -> int:
        """Entries that wait for a batch."""
        with self._changed:
            return len(self._room)

    def start(self) -> None:
        """Starts the owner thread; outcomes go to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def close(self, timeout_s: float) -> None:
        """Takes nothing new, finishes what waits, and after `timeout_s` fails the rest."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, timeout_s)
        self._settle(self._fail_everybody())

    def expect(self, lane: Lane[Any, Any]) -> None:
        """Announces work for `lane`: a batch may wait for it."""
        with self._changed:
            lane.expected += 1

    def expect_no_more(self, lane: Lane[Any, Any]) -> None:
        """Takes an announcement back: the work is in the waiting room, or never will be."""
        with self._changed:
            lane.expected -= 1
            self.wake()

    def enqueue(self, lane: Lane[Item, Result], items: Sequence[Item]) -> list[_Entry]:
        """Puts `items` into the waiting room as one call; use `Lane.submit`.

        The owner thread sleeps on until `wake`, or until what is expected has come.
        """
        call = _Call(asyncio.get_running_loop().create_future(), len(items))
        now = time.monotonic()
        trace = tracing.current.get()
        entries = [
            _Entry(lane, item, call, now, (lane, item.group), item.cost, trace) for item in items
        ]
        with self._changed:
            self._refuse_if_stopped()
            for entry in entries:
                self._room.add(entry)
        return entries

    def wake(self) -> None:
        """Wakes the owner thread where it would oversleep; it costs everybody Python's lock."""
        with self._changed:
            if self._sleeps_until == -math.inf:
                return
            deadline = self._room.next_deadline()
            if deadline is None:
                return
            if deadline < self._sleeps_until or self._room.is_due(time.monotonic()):
                self._changed.notify()

    def discard(self, entries: Sequence[_Entry]) -> None:
        """Drops the entries of a caller who hung up, as far as they still wait."""
        with self._changed:
            for entry in entries:
                self._room.discard(entry)

    def _refuse_if_stopped(self) -> None:
        if self._dead:
            raise WorkerDiedError(self.name)
        if self._closing:
            raise BatcherClosedError(self.name)

    # The rest runs on the owner thread, but for `_settle`.

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                self._serve(batch)
        except BaseException:
            log.critical("the owner thread of the %s model died", self.name, exc_info=True)
        finally:
            with self._changed:
                self._dead = not self._closing
            self._deliver(self._fail_everybody())

    def _next_batch(self) -> list[_Entry]:
        """Blocks until there is a batch to run; empty when the batcher closes."""
        rests = False
        with self._changed:
            while True:
                now = time.monotonic()
                if batch := self._room.cut(now, flush=self._closing):
                    self._running, self._running_since = batch, now
                    return batch
                if self._closing:
                    return []
                deadline = self._room.next_deadline()
                self._sleeps_until = math.inf if deadline is None else deadline
                patience_s = None if rests else _REST_AFTER_S
                woken = self._changed.wait(
                    patience_s if deadline is None else max(deadline - now, 0)
                )
                self._sleeps_until = -math.inf
                if deadline is None and not woken:
                    self._rest()
                    rests = True

    def _serve(self, batch: list[_Entry]) -> None:
        started = time.monotonic()
        waits = tuple(started - entry.since for entry in batch)
        outcomes, forwards = self._forward(batch)
        ended = time.monotonic()
        report = BatchReport(
            lane=batch[0].lane.name,
            size=len(batch),
            cost=len(batch) * max(entry.cost for entry in batch),
            waits_s=waits,
            forward_s=ended - started,
            retries=forwards - 1,
        )
        self._running, self._running_since = [], None
        _trace(batch, report, started, ended)
        self._deliver(outcomes)
        self._observe(report)

    def _forward(self, batch: list[_Entry]) -> tuple[list[tuple[_Entry, Any]], int]:
        """Returns each entry's outcome, and how many forwards it took."""
        try:
            results = batch[0].lane.forward([entry.item for entry in batch])
            if len(results) != len(batch):
                raise ResultCountError(len(batch), len(results))  # noqa: TRY301 - fails like any forward
            return list(zip(batch, results, strict=True)), 1
        except Exception as error:  # noqa: BLE001 - any failure belongs to this batch's callers
            traceback.clear_frames(error.__traceback__)
            if len(batch) == 1:
                return [(batch[0], error)], 1
        # Outside the handler, whose exception would keep the failed batch's tensors alive.
        half = len(batch) // 2
        first, n_first = self._forward(batch[:half])
        second, n_second = self._forward(batch[half:])
        return first + second, 1 + n_first + n_second

    def _fail_everybody(self) -> list[tuple[_Entry, Any]]:
        with self._changed:
            lost = self._running + self._room.empty()
            self._running, self._running_since = [], None
        error = WorkerDiedError if self._dead else BatcherClosedError
        return [(entry, error(self.name)) for entry in lost]

    def _deliver(self, outcomes: list[tuple[_Entry, Any]]) -> None:
        if outcomes and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._settle, outcomes)

    def _settle(self, outcomes: list[tuple[_Entry, Any]]) -> None:
        for entry, outcome in outcomes:
            entry.outcome = outcome
            entry.call.left -= 1
            if entry.call.left == 0 and not entry.call.done.done():
                entry.call.done.set_result(None)


def _trace(batch: Sequence[_Entry], report: BatchReport, started: float, ended: float) -> None:
    """Tells each request that is traced how long it waited for this batch, and the batch took."""
    since = {entry.trace: entry.since for entry in reversed(batch) if entry.trace is not None}
    for trace, waited_from in since.items():
        trace.record("queue", waited_from, started, lane=report.lane)
        trace.record("forward", started, ended, lane=report.lane, batch_size=report.size)
