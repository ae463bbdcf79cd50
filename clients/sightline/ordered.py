"""Runs many calls side by side and yields their results in order. Knows threads and asyncio."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_threads(
    function: Callable[[T], R], inputs: Iterable[T], *, width: int
) -> Generator[R, None, None]:
    """Yields function(input) for each input, in order, with at most `width` at work or waiting.

    Inputs are taken as places become free, so an endless iterable is fine. The first failure is
    raised where its result would have come; what has not begun by then is dropped.
    """
    pool = ThreadPoolExecutor(width, thread_name_prefix="sightline")
    window: deque[Future[R]] = deque()
    try:
        for value in inputs:
            if len(window) == width:
                yield window.popleft().result()
            window.append(pool.submit(function, value))
        while window:
            yield window.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


async def in_tasks(
    function: Callable[[T], Awaitable[R]], inputs: Iterable[T], *, width: int
) -> AsyncGenerator[R, None]:
    """The same on the running event loop; what is unfinished after a failure is cancelled."""
    window: deque[asyncio.Future[R]] = deque()
    try:
        for value in inputs:
            if len(window) == width:
                yield await window.popleft()
            window.append(asyncio.ensure_future(function(value)))
        while window:
            yield await window.popleft()
    finally:
        for task in window:
            task.cancel()
        await asyncio.gather(*window, return_exceptions=True)
