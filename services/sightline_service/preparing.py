"""The pool for CPU work that must not hold up the event loop. Knows threads; knows no models."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

Stage = Literal["parse", "prepare", "finish"]
Result = TypeVar("Result")
StageObserver = Callable[[Stage, float], None]


class Preparer:
    """Runs parsing, decoding, resizing and tokenising on a bounded number of threads.

    Args:
        threads: how many pieces of work run at once; the others wait in order.
        observe: called with the stage and its seconds after each piece.
    """

    def __init__(
        self, threads: int, *, observe: StageObserver = lambda stage, seconds: None
    ) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="prepare")
        self._observe = observe

    async def run(self, stage: Stage, work: Callable[[], Result]) -> Result:
        """Returns `work()`; if the caller is cancelled before it began, it never begins."""
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, self._timed, stage, work
        )

    def close(self) -> None:
        """Drops what has not begun; what runs may end."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _timed(self, stage: Stage, work: Callable[[], Result]) -> Result:
        started = time.monotonic()
        try:
            return work()
        finally:
            self._observe(stage, time.monotonic() - started)
