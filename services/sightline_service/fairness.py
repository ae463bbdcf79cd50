"""Who goes next where callers compete. Knows asyncio; knows no HTTP, no keys and no models."""

import asyncio
from collections import deque
from contextlib import suppress
from contextvars import ContextVar
from types import TracebackType

caller: ContextVar[str] = ContextVar("caller", default="")
"""On whose behalf the running task works: a name for a key or an address, never the key itself."""


class FairPlaces:
    """A number of places for which callers queue up, each behind its own kind only.

    A free place goes to the callers in turn, so that one with a thousand pieces of work holds up
    another's single piece by as long as one piece takes, and not by a thousand.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return sum(len(queue) for queue in self._queues.values())

    def place(self) -> "Place":
        """Holds a place, taken on behalf of `caller`, while the block runs: `async with`."""
        return Place(self)

    async def take(self, name: str) -> None:
        """Waits for a place for `name`; `give_back` it."""
        if self._free and not self._queues:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(name, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(name, turn)
            else:
                self.give_back()  # the place was given while the cancellation was on its way
            raise

    def _leave(self, name: str, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(name, deque())
        with suppress(ValueError):  # whoever gave a place back has already passed it over
            queue.remove(turn)
        if not queue:
            self._queues.pop(name, None)

    def give_back(self) -> None:
        """Hands the place to the caller whose turn it is, and puts that caller last."""
        while self._queues:
            name, queue = next(iter(self._queues.items()))
            del self._queues[name]
            turn = queue.popleft()
            if queue:
                self._queues[name] = queue
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Place:
    """One of the places, taken and given back."""

    __slots__ = ("_places",)

    def __init__(self, places: FairPlaces) -> None:
        self._places = places

    async def __aenter__(self) -> None:
        """Waits for it."""
        await self._places.take(caller.get())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """Gives it back."""
        self._places.give_back()
