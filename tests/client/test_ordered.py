import asyncio
import itertools
import threading
import time

import pytest

from sightline.ordered import in_tasks, in_threads


def slow_first(value: int) -> int:
    time.sleep(0.02 if value == 0 else 0.0)
    return value * value


async def slow_first_async(value: int) -> int:
    await asyncio.sleep(0.02 if value == 0 else 0.0)
    return value * value


async def collected(function, inputs, width: int) -> list[int]:
    return [result async for result in in_tasks(function, inputs, width=width)]


@pytest.mark.parametrize("width", [1, 3, 50])
def test_results_come_in_the_order_of_the_inputs(width):
    squares = [value * value for value in range(20)]
    assert list(in_threads(slow_first, range(20), width=width)) == squares
    assert asyncio.run(collected(slow_first_async, range(20), width)) == squares
    assert list(in_threads(slow_first, [], width=width)) == []


def test_no_more_inputs_are_taken_than_there_is_room_for():
    taken: list[int] = []

    def inputs():
        for value in itertools.count():
            taken.append(value)
            yield value

    results = in_threads(slow_first, inputs(), width=3)
    assert [next(results) for _ in range(4)] == [0, 1, 4, 9]
    assert len(taken) <= 4 + 3
    results.close()

    async def first_four() -> list[int]:
        stream = in_tasks(slow_first_async, inputs(), width=3)
        got = [await anext(stream) for _ in range(4)]
        await stream.aclose()
        return got

    taken.clear()
    assert asyncio.run(first_four()) == [0, 1, 4, 9]
    assert len(taken) <= 4 + 3


def test_a_failure_comes_in_its_place_and_ends_the_rest():
    done: list[int] = []
    lock = threading.Lock()

    def fails_at_two(value: int) -> int:
        if value == 2:
            raise ValueError("two")
        with lock:
            done.append(value)
        return value

    results = in_threads(fails_at_two, range(1000), width=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
    assert len(done) < 10


def test_unfinished_tasks_are_cancelled_after_a_failure():
    cancelled: list[int] = []

    async def function(value: int) -> int:
        if value == 0:
            await asyncio.sleep(0.005)
            raise ValueError("zero")
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(value)
            raise
        return value

    with pytest.raises(ValueError, match="zero"):
        asyncio.run(collected(function, range(9), 3))
    assert cancelled == [1, 2]
