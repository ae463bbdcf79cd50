"""Who goes next where callers compete. Knows asyncio; knows no HTTP, no keys and no models."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar

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

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[None]:
        """Holds a place, taken on behalf of `caller`, until the block ends."""
        await self._take(caller.get())
        try:
            yield
        finally:
            self._give_back()

    async def _take(self, name: str) -> None:
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
                self._give_back()  # the place was given while the cancellation was on its way
            raise

    def _leave(self, name: str, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(name, deque())
        with suppress(ValueError):  # whoever gave a place back has already passed it over
            queue.remove(turn)
        if not queue:
            self._queues.pop(name, None)

    def _give_back(self) -> None:
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
