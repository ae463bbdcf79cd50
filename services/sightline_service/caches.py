"""What is kept, and what is done only once. Knows asyncio; knows no images, texts or models."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

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
    """Work under way for some keys, in the task of the caller who asked for them first.

    `landed` is made by the first other caller who waits: most work has none. It will hold nothing
    where the first caller is cancelled, and the work with it.
    """

    landed: asyncio.Future[dict[Key, Value | Exception]] | None = None

    def land(self, outcomes: dict[Key, Value | Exception]) -> None:
        if self.landed is not None and not self.landed.done():
            self.landed.set_result(outcomes)

    def join(self) -> asyncio.Future[dict[Key, Value | Exception]]:
        if self.landed is None:
            self.landed = asyncio.get_running_loop().create_future()
        return self.landed


class SingleFlight(Generic[Key, Value]):
    """Does work once per key, however many callers want it at the same time.

    The first caller works, the others wait; when the first is cancelled, so is its work, and one
    of those who wait begins it anew. Each caller gets its own copy of an exception.
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
            work: called with those keys that nobody is working on yet; returns one outcome per
                key. What it raises is the outcome of each of its keys.
        """
        outcomes: dict[Key, Value | Exception] = {}
        while left := [key for key in dict.fromkeys(keys) if key not in outcomes]:
            others = {self._flights[key] for key in left if key in self._flights}
            waits = [flight.join() for flight in others]
            fresh = tuple(key for key in left if key not in self._flights)
            if fresh:
                outcomes |= await self._fly(fresh, work)
            for wait in waits:
                landed = await asyncio.shield(wait)
                outcomes |= {key: _own(landed[key]) for key in left if key in landed}
        return [outcomes[key] for key in keys]

    async def _fly(
        self,
        keys: tuple[Key, ...],
        work: Callable[[Sequence[Key]], Awaitable[Sequence[Value | Exception]]],
    ) -> dict[Key, Value | Exception]:
        flight: _Flight[Key, Value] = _Flight()
        self._flights.update(dict.fromkeys(keys, flight))
        outcomes: dict[Key, Value | Exception] = {}
        try:
            outcomes |= zip(keys, await work(keys), strict=True)
        except Exception as error:  # noqa: BLE001 - it belongs to everybody who waits
            outcomes |= dict.fromkeys(keys, error)
        finally:
            for key in keys:
                del self._flights[key]
            flight.land(outcomes)
        return outcomes


def _own(outcome: Value | Exception) -> Value | Exception:
    return copy_of(outcome) if isinstance(outcome, Exception) else outcome


def copy_of(error: Exception) -> Exception:
    """Returns an equal exception: one raised in several tasks would mix their tracebacks."""
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    return copy.with_traceback(error.__traceback__)
