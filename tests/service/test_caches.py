import asyncio
import gc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_service.caches import ByteLru, SingleFlight, copy_of
from sightline_service.errors import OverloadedError

pytestmark = pytest.mark.anyio


def lru(capacity: int) -> ByteLru[str, str]:
    return ByteLru(capacity, lambda key, value: len(value))


def test_the_longest_unused_goes_first():
    cache = lru(10)
    cache.put("a", "1234")
    cache.put("b", "1234")
    assert cache.get("a") == "1234"
    cache.put("c", "1234")
    assert ("a" in cache, "b" in cache, "c" in cache) == (True, False, True)
    assert cache.bytes == 8


def test_replacing_a_value_accounts_for_the_new_one_only():
    cache = lru(10)
    cache.put("a", "1234")
    cache.put("a", "12")
    assert (cache.bytes, len(cache)) == (2, 1)


def test_a_value_beyond_the_capacity_is_not_kept_and_drops_nothing_else():
    cache = lru(4)
    cache.put("a", "1234")
    assert not cache.put("b", "12345")
    assert cache.get("a") == "1234"
    assert cache.get("b") is None
    assert (cache.hits, cache.misses) == (1, 1)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 12)), max_size=60))
def test_no_sequence_of_puts_exceeds_the_capacity(puts):
    cache = lru(20)
    for key, size in puts:
        cache.put(key, "x" * size)
        assert cache.bytes <= 20
    assert cache.bytes == sum(len(cache.get(key) or "") for key in "abcdef")


class Work:
    """Records which keys it was asked for, and waits until it may answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.cancelled = 0
        self.may_end = asyncio.Event()

    async def __call__(self, keys: Sequence[str]) -> list[str | Exception]:
        self.asked.append(tuple(keys))
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return [OverloadedError(key) if key == "bad" else key.upper() for key in keys]


async def test_identical_work_in_flight_is_done_once():
    flights, work = SingleFlight[str, str](), Work()
    first = asyncio.create_task(flights.run(["a", "b"], work))
    second = asyncio.create_task(flights.run(["b", "c", "b"], work))
    await asyncio.sleep(0.01)
    work.may_end.set()
    assert await first == ["A", "B"]
    assert await second == ["B", "C", "B"]
    assert work.asked == [("a", "b"), ("c",)]


async def test_work_that_has_landed_is_done_again_when_asked_again():
    flights, work = SingleFlight[str, str](), Work()
    work.may_end.set()
    await flights.run(["a"], work)
    await flights.run(["a"], work)
    assert work.asked == [("a",), ("a",)]


async def test_one_key_fails_alone_and_each_caller_gets_a_copy():
    flights, work = SingleFlight[str, str](), Work()
    work.may_end.set()
    one, other = await asyncio.gather(*(flights.run(["bad", "a"], work) for _ in range(2)))
    assert (one[1], other[1]) == ("A", "A")
    assert isinstance(one[0], OverloadedError)
    assert str(one[0]) == str(other[0])
    assert one[0] is not other[0]


async def test_a_failure_of_the_work_as_a_whole_is_the_outcome_of_each_of_its_keys():
    flights = SingleFlight[str, str]()

    async def fail(keys):
        await asyncio.sleep(0)
        raise OverloadedError("everything")

    outcomes = await asyncio.gather(*(flights.run(["a", "b"], fail) for _ in range(2)))
    assert [str(error) for each in outcomes for error in each] == [
        str(OverloadedError("everything"))
    ] * 4
    assert outcomes[0][0] is not outcomes[1][0]


async def test_a_cancelled_joiner_leaves_the_others_undisturbed():
    flights, work = SingleFlight[str, str](), Work()
    callers = [asyncio.create_task(flights.run(["a"], work)) for _ in range(3)]
    await asyncio.sleep(0.01)
    callers[1].cancel()
    await asyncio.sleep(0.01)
    work.may_end.set()
    assert [await callers[0], await callers[2]] == [["A"], ["A"]]
    assert (work.asked, work.cancelled) == ([("a",)], 0)


async def test_when_the_one_who_works_is_cancelled_one_who_waits_works():
    flights, work = SingleFlight[str, str](), Work()
    leaver = asyncio.create_task(flights.run(["a", "b"], work))
    stayers = [asyncio.create_task(flights.run(keys, work)) for keys in (["a"], ["a", "c"])]
    await asyncio.sleep(0.01)
    leaver.cancel()
    await asyncio.sleep(0.01)
    work.may_end.set()
    assert [await each for each in stayers] == [["A"], ["A", "C"]]
    assert work.asked == [("a", "b"), ("c",), ("a",)]
    assert work.cancelled == 1


async def test_when_the_only_caller_leaves_the_work_is_cancelled():
    flights, work = SingleFlight[str, str](), Work()
    task = asyncio.create_task(flights.run(["a"], work))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0.01)
    assert work.cancelled == 1
    work.may_end.set()
    assert await flights.run(["a"], work) == ["A"]


async def test_a_failure_in_the_moment_when_the_last_caller_leaves_is_nobodys_complaint():
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    flights, fail = SingleFlight[str, str](), asyncio.Event()

    async def work(_):
        await fail.wait()
        raise ValueError

    caller = asyncio.create_task(flights.run(["a"], work))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    fail.set()
    await asyncio.sleep(0)  # the work has failed, and its caller does not know yet
    caller.cancel()
    await asyncio.wait({caller})
    del caller
    gc.collect()
    assert not complaints


def test_a_copied_exception_keeps_its_data():
    error = OverloadedError("max_queue_items", retry_after_s=7)
    error.__cause__ = KeyError("x")
    copy = copy_of(error)
    assert (copy.reason, copy.retry_after_s, copy.__cause__) == (
        "max_queue_items",
        7,
        error.__cause__,
    )
