"""Dynamic batching on one thread per model. Knows asyncio and threads; not HTTP, torch or pydantic.

Life of an entry: a caller on the event loop submits it, or the thread that prepared it does, with
no way round by the event loop; it waits in the `WaitingRoom`; the model's owner thread, whenever
it is free, cuts the next batch itself (nor is the event loop between two batches) and runs
`forward`; the outcomes go back to the loop in one hop. Everything before `forward` (decoding,
resizing, tokenising) and after it happens elsewhere, so that it overlaps with the batch on the
device.
"""

import asyncio
import logging
import math
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Generic, Literal, TypeVar

from sightline_service.calls import BatchReport, Call, Entry, Kind, Work, record_spans
from sightline_service.errors import BatcherClosedError, ResultCountError, WorkerDiedError
from sightline_service.fairness import FairPlaces
from sightline_service.waiting import BatchLimits, WaitingRoom

log = logging.getLogger(__name__)

_REST_AFTER_S = 0.5

WorkerState = Literal["new", "ready", "stalled", "dead", "closed"]


Item = TypeVar("Item", bound=Work)
Result = TypeVar("Result")
Observer = Callable[[BatchReport], None]


class Lane(Generic[Item, Result]):
    """Where callers bring one kind of work for a model, such as its images or its texts."""

    def __init__(self, batcher: "DynamicBatcher", kind: Kind) -> None:
        self._batcher = batcher
        self._kind = kind
        self._ahead = FairPlaces(2 * kind.limits.max_items)

    async def submit(self, items: Sequence[Item]) -> list[Result | Exception]:
        """Returns, per item, its result or the exception that `forward` raised for it.

        Raises:
            BatcherClosedError: the batcher stops and takes nothing new.
            WorkerDiedError: the owner thread is gone.
        """
        call = Call.of(self._kind)
        self._batcher.enqueue(call, items)
        if items:
            try:
                await call.done
            except asyncio.CancelledError:
                self._batcher.discard(call)
                raise
        return call.outcomes()

    async def prepare_and_submit(
        self, start: Callable[[], Future[Sequence[Item]]], *, soon: bool = True
    ) -> list[Result | Exception]:
        """Like `submit`, for items still to be prepared: a batch may wait for them.

        Preparation runs at most two batches ahead of the device, so that what is prepared and
        waits takes a bounded amount of memory; callers who compete for that get turns.

        Args:
            start: begins to prepare the items, on whatever thread; what fails there is raised
                here, and what has not begun when the caller is cancelled never does.
            soon: whether that is worth a batch's wait.

        Raises:
            BatcherClosedError, WorkerDiedError: as `submit` does.
        """
        async with self._ahead.place():
            call = Call.of(self._kind)
            if soon:
                self._batcher.expect(call)
            try:
                preparing = start()
                preparing.add_done_callback(partial(self._prepared, call))
                try:
                    await call.done
                except asyncio.CancelledError:
                    preparing.cancel()
                    raise
                finally:
                    del preparing  # it keeps what it failed with, whose traceback keeps this frame
            except BaseException:
                self._batcher.discard(call)
                raise
            return call.outcomes()

    def _prepared(self, call: Call, preparing: Future[Sequence[Item]]) -> None:
        """Runs on the thread that prepared; the event loop hears of what needs it, no more."""
        if preparing.cancelled():
            failure: BaseException | None = BatcherClosedError(self._batcher.name)
        else:
            failure = preparing.exception()
        if failure is None:
            failure = self._enqueued(call, preparing.result())
        if failure is not None:
            self._batcher.discard(call)
            self._batcher.tell(call, partial(call.fail, failure))

    def _enqueued(self, call: Call, items: Sequence[Item]) -> Exception | None:
        try:
            self._batcher.enqueue(call, items)
        except Exception as error:  # noqa: BLE001 - it belongs to the caller
            return error
        if not items:
            self._batcher.tell(call, call.settle)
        return None


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
        self._room: WaitingRoom[Entry] = WaitingRoom()
        self._changed = threading.Condition()
        self._sleeps_until = -math.inf
        self._closing = False
        self._dead = False
        self._running: list[Entry] = []
        self._running_since: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name=f"{name}-owner", daemon=True)

    def lane(
        self,
        name: str,
        forward: Callable[[Sequence[Item]], Sequence[Result]],
        limits: BatchLimits,
    ) -> Lane[Item, Result]:
        """Adds a kind of work; lanes share the thread and never a batch.

        Args:
            name: names the lane in reports.
            forward: maps n items to n results, in order; runs on the owner thread alone.
            limits: bounds of one batch.
        """
        return Lane(self, Kind(name, forward, limits))

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

    def expect(self, call: Call) -> None:
        """Announces work: a batch of its lane may wait for it."""
        with self._changed:
            call.kind.expected.add(call)

    def enqueue(self, call: Call, items: Sequence[Work]) -> None:
        """Puts `items` into the waiting room, unless their caller has hung up; from any thread.

        Raises:
            BatcherClosedError, WorkerDiedError: as `Lane.submit` does.
        """
        now = time.monotonic()
        entries = [Entry(call, item, now, (call.kind, item.group), item.cost) for item in items]
        with self._changed:
            call.kind.expected.discard(call)
            self._refuse_if_stopped()
            if not call.done.done():
                call.entries, call.left = entries, len(entries)
                for entry in entries:
                    self._room.add(entry)
            self._wake()

    def discard(self, call: Call) -> None:
        """Drops the entries of a caller who hung up, as far as they are still on their way."""
        with self._changed:
            call.kind.expected.discard(call)
            for entry in call.entries:
                self._room.discard(entry)
            call.entries = ()
            self._wake()

    def tell(self, call: Call, news: Callable[[], None]) -> None:
        """Has `news` run on the event loop of the caller, unless that has closed."""
        with suppress(RuntimeError):
            call.done.get_loop().call_soon_threadsafe(news)

    def _wake(self) -> None:
        """Wakes the owner thread where it would oversleep; it costs everybody Python's lock."""
        if self._sleeps_until == -math.inf:
            return
        deadline = self._room.next_deadline()
        if deadline is None:
            return
        if deadline < self._sleeps_until or self._room.is_due(time.monotonic()):
            self._changed.notify()

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
                del batch  # it is not kept while the thread waits for another
        except BaseException:
            log.critical("the owner thread of the %s model died", self.name, exc_info=True)
        finally:
            with self._changed:
                self._dead = not self._closing
            self._deliver(self._fail_everybody())

    def _next_batch(self) -> list[Entry]:
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

    def _serve(self, batch: list[Entry]) -> None:
        started = time.monotonic()
        waits = tuple(started - entry.since for entry in batch)
        outcomes, forwards = self._forward(batch)
        ended = time.monotonic()
        report = BatchReport(
            lane=batch[0].call.kind.name,
            size=len(batch),
            cost=len(batch) * max(entry.cost for entry in batch),
            waits_s=waits,
            forward_s=ended - started,
            retries=forwards - 1,
        )
        self._running, self._running_since = [], None
        record_spans(batch, report, started, ended)
        self._deliver(outcomes)
        self._observe(report)

    def _forward(self, batch: list[Entry]) -> tuple[list[tuple[Entry, Any]], int]:
        """Returns each entry's outcome, and how many forwards it took."""
        try:
            results = batch[0].call.kind.forward([entry.item for entry in batch])
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

    def _fail_everybody(self) -> list[tuple[Entry, Any]]:
        with self._changed:
            lost = self._running + self._room.empty()
            self._running, self._running_since = [], None
        error = WorkerDiedError if self._dead else BatcherClosedError
        return [(entry, error(self.name)) for entry in lost]

    def _deliver(self, outcomes: list[tuple[Entry, Any]]) -> None:
        if outcomes and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._settle, outcomes)

    def _settle(self, outcomes: list[tuple[Entry, Any]]) -> None:
        for entry, outcome in outcomes:
            entry.outcome = outcome
            entry.call.settle(1)
