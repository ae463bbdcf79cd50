"""The pools for CPU work that must not hold up the event loop. Knows threads; knows no models."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Literal, TypeVar

from sightline_service import tracing

Stage = Literal["parse", "prepare", "finish"]
Result = TypeVar("Result")
StageObserver = Callable[[Stage, float], None]

_CLERKS = 2
_SMALL = 16 * 1024


class Preparer:
    """Runs parsing, decoding, resizing and tokenising on a bounded number of threads.

    Stage "prepare" has threads of its own: what is nearly done ("finish"), and what only just came
    ("parse"), does not queue behind the images of everybody else.

    Args:
        threads: how many pieces of stage "prepare" run at once; the others wait in order.
        observe: called with the stage and its seconds after each piece.
        begin: called by each thread of stage "prepare" before its first piece.
    """

    def __init__(
        self,
        threads: int,
        *,
        observe: StageObserver = lambda stage, seconds: None,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        clerks = ThreadPoolExecutor(_CLERKS, thread_name_prefix="clerk")
        prepare = ThreadPoolExecutor(threads, thread_name_prefix="prepare", initializer=begin)
        self._pools: dict[Stage, ThreadPoolExecutor] = {
            "parse": clerks,
            "prepare": prepare,
            "finish": clerks,
        }
        self._observe = observe

    async def run(self, stage: Stage, work: Callable[[], Result], *, size: int = _SMALL) -> Result:
        """Returns `work()`; if the caller is cancelled before it began, it never begins.

        Args:
            stage: which threads, and what to record.
            work: what to run.
            size: the bytes or characters that it goes through, where they tell how long it takes:
                a few are done at once, which is faster than handing them over.
        """
        trace = tracing.current.get()
        if size < _SMALL:
            return self._timed(stage, work, trace)
        return await asyncio.get_running_loop().run_in_executor(
            self._pools[stage], self._timed, stage, work, trace
        )

    def start(
        self, stage: Stage, work: Callable[[], Result], *, size: int = _SMALL
    ) -> Future[Result]:
        """Begins what `run` awaits, for those who need no event loop to go on with the result."""
        timed = partial(self._timed, stage, work, tracing.current.get())
        if size >= _SMALL:
            return self._pools[stage].submit(timed)
        done: Future[Result] = Future()
        try:
            done.set_result(timed())
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asks for the result
            done.set_exception(error)
        try:
            return done
        finally:
            del done  # this frame is part of the error's traceback: they would keep each other

    def close(self) -> None:
        """Drops what has not begun; what runs may end."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    def _timed(
        self, stage: Stage, work: Callable[[], Result], trace: tracing.Trace | None
    ) -> Result:
        started = time.monotonic()
        try:
            return work()
        finally:
            ended = time.monotonic()
            self._observe(stage, ended - started)
            if trace is not None:
                trace.record(stage, started, ended)
