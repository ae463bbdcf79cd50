"""Waiting for several things at once, where the first failure ends the rest. Knows asyncio only."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

First = TypeVar("First")
Second = TypeVar("Second")


async def together(work: Iterable[Coroutine[Any, Any, First]]) -> list[First]:
    """Returns the results in order; when one fails, the others are cancelled and it is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def both(
    first: Coroutine[Any, Any, First], second: Coroutine[Any, Any, Second]
) -> tuple[First, Second]:
    """Like `together`, for two results of different types."""
    try:
        async with asyncio.TaskGroup() as group:
            one, other = group.create_task(first), group.create_task(second)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return one.result(), other.result()
