"""What is kept, and what is done only once. Knows asyncio; knows no images, texts or models."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class ByteLru(Generic[Key, Value]):
    """A mapping that never holds more than `capacity_bytes`: the longest unused goes first.

    Safe to use from many threads. A value larger than the whole capacity is not kept.

    Args:
        capacity_bytes: the bound; 0 keeps nothing.
        size_of: the bytes that an entry accounts for.
    """

    def __init__(self, capacity_bytes: int, size_of: Callable[[Key, Value], int]) -> None:
        self.capacity_bytes = capacity_bytes
        self.hits = 0
        self.misses = 0
        self._size_of = size_of
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    @property
    def bytes(self) -> int:
        """What is held now."""
        return self._bytes

    def __len__(self) -> int:
        """How many entries are held."""
        return len(self._entries)

    def __contains__(self, key: Key) -> bool:
        """Whether `key` is held; does not count as use."""
        return key in self._entries

    def get(self, key: Key) -> Value | None:
        """Returns the value and marks it as used, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                self.misses += 1
                return None
            self.hits += 1
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: Key, value: Value) -> bool:
        """Keeps `value`, dropping the longest unused; returns whether it fits at all."""
        size = self._size_of(key, value)
        with self._lock:
            self._drop(key)
            if size > self.capacity_bytes:
                return False
            self._entries[key] = (value, size)
            self._bytes += size
            while self._bytes > self.capacity_bytes:
                self._drop(next(iter(self._entries)))
            return True

    def _drop(self, key: Key) -> None:
        _, size = self._entries.pop(key, (None, 0))
        self._bytes -= size


@dataclass(eq=False, slots=True)
class _Flight(Generic[Key, Value]):
    """Work under way for some keys, and how many callers wait for it."""

    keys: tuple[Key, ...]
    task: asyncio.Task[dict[Key, Value | Exception]]
    waiters: int = 0


class SingleFlight(Generic[Key, Value]):
    """Does work once per key, however many callers want it at the same time.

    A caller who is cancelled leaves the others undisturbed; when the last one leaves, the work is
    cancelled. Each caller gets its own copy of an exception.
    """

    def __init__(self) -> None:
        self._flights: dict[Key, _Flight[Key, Value]] = {}

    async def run(
        self,
        keys: Sequence[Key],
        work: Callable[[Sequence[Key]], Awaitable[Sequence[Value | Exception]]],
    ) -> list[Value | Exception]:
        """Returns one outcome per key, in order.

        Args:
            keys: what is wanted.
            work: called at most once, with those keys that nobody is working on yet; returns one
                outcome per key. What it raises is raised to all who wait for any of its keys.
        """
        fresh = tuple(key for key in dict.fromkeys(keys) if key not in self._flights)
        if fresh:
            self._launch(fresh, work)
        flights = {key: self._flights[key] for key in keys}
        distinct = set(flights.values())
        for flight in distinct:
            flight.waiters += 1
        try:
            if distinct:
                await asyncio.wait({flight.task for flight in distinct})
        finally:
            for flight in distinct:
                self._leave(flight)
        return [_own(_landed(flights[key])[key]) for key in keys]

    def _launch(
        self,
        keys: tuple[Key, ...],
        work: Callable[[Sequence[Key]], Awaitable[Sequence[Value | Exception]]],
    ) -> None:
        async def fly() -> dict[Key, Value | Exception]:
            return dict(zip(keys, await work(keys), strict=True))

        flight: _Flight[Key, Value] = _Flight(keys, asyncio.create_task(fly()))
        for key in keys:
            self._flights[key] = flight
        flight.task.add_done_callback(lambda task: self._land(flight, task))

    def _land(self, flight: _Flight[Key, Value], task: asyncio.Task[Any]) -> None:
        self._forget(flight)
        if not task.cancelled():
            task.exception()  # looked at even if its last caller left in the same moment

    def _leave(self, flight: _Flight[Key, Value]) -> None:
        flight.waiters -= 1
        if not flight.waiters and not flight.task.done():
            self._forget(flight)
            flight.task.cancel()

    def _forget(self, flight: _Flight[Key, Value]) -> None:
        for key in flight.keys:
            if self._flights.get(key) is flight:
                del self._flights[key]


def _landed(flight: _Flight[Key, Value]) -> dict[Key, Value | Exception]:
    error = flight.task.exception()
    if isinstance(error, Exception):
        raise copy_of(error)
    return flight.task.result()


def _own(outcome: Value | Exception) -> Value | Exception:
    return copy_of(outcome) if isinstance(outcome, Exception) else outcome


def copy_of(error: Exception) -> Exception:
    """Returns an equal exception: one raised in several tasks would mix their tracebacks."""
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    return copy.with_traceback(error.__traceback__)
