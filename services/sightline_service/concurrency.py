"""Waiting for several things, or for a thread. Knows asyncio and threads, and nothing else."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, TypeVar, cast

First = TypeVar("First")
Second = TypeVar("Second")


async def together(work: Iterable[Coroutine[Any, Any, First]]) -> list[First]:
    """Returns the results in order; when one fails, the others are cancelled and it is raised."""
    coroutines = [*work]
    if len(coroutines) == 1:
        return [await coroutines[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in coroutines]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def both(
    first: Coroutine[Any, Any, First], second: Coroutine[Any, Any, Second]
) -> tuple[First, Second]:
    """Like `together`, for two results of different types."""
    one = asyncio.create_task(first)  # a TaskGroup does more, and costs more
    try:
        other = await second
        return await one, other
    except BaseException:
        one.cancel()
        await asyncio.gather(one, return_exceptions=True)
        raise


async def in_daemon_thread(work: Callable[[], First]) -> First:
    """Returns `work()`, run on a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[First] = loop.create_future()

    def settle(result: First | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast(First, result))

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as raised:  # noqa: BLE001 - handed to whoever waits
            error = raised
        with suppress(RuntimeError):  # the loop has closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await done
