import asyncio
import gc
import math
import threading
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_service.batching import DynamicBatcher, Lane
from sightline_service.calls import BatchReport
from sightline_service.errors import BatcherClosedError, ResultCountError, WorkerDiedError
from sightline_service.waiting import BatchLimits

pytestmark = pytest.mark.anyio


async def submit_each(lane: Lane, *numbers) -> list[asyncio.Task]:
    tasks = []
    for number in numbers:
        tasks.append(asyncio.create_task(lane.submit([number])))
        await asyncio.sleep(0)
    return tasks


async def test_what_arrives_while_the_device_is_busy_shares_batches(
    batching, device, number, values
):
    async with batching(device) as (_, lane):
        held = await device.hold(lane)
        tasks = await submit_each(lane, *map(number, range(6)))
        device.free.set()
        assert values(await asyncio.gather(*tasks)) == [0, 2, 4, 6, 8, 10]
        assert await held == [-2]
    assert device.batches == [[0, 1, 2, 3], [4, 5]]


async def test_one_call_may_span_batches_and_keeps_its_order(batching, device, number):
    async with batching(device) as (_, lane):
        assert await lane.submit([number(n) for n in range(10)]) == [2 * n for n in range(10)]
        assert await lane.submit([]) == []
    assert sum(map(len, device.batches)) == 10


async def test_batches_hold_equal_groups_only(batching, device, number):
    async with batching(device) as (_, lane):
        held = await device.hold(lane)
        numbers = [number(n, group=("even", "odd")[n % 2]) for n in range(6)]
        tasks = await submit_each(lane, *numbers)
        device.free.set()
        await asyncio.gather(held, *tasks)
    assert device.batches == [[0, 2, 4], [1, 3, 5]]


async def test_lanes_share_the_thread_and_never_a_batch(batching, device, number, limits):
    threads = set()

    def other(items):
        threads.add(threading.current_thread().name)
        return [item.value + 1 for item in items]

    async with batching(device) as (batcher, lane):
        second = batcher.lane("other", other, limits)
        doubled, next_one = await asyncio.gather(
            lane.submit([number(5)]), second.submit([number(5)])
        )
    assert (doubled, next_one) == ([10], [6])
    assert threads == {"test-owner"}


async def test_a_lone_item_on_an_idle_device_is_not_held_up(batching, device, number):
    slow = BatchLimits(max_items=4, max_cost=100, max_wait_s=30)
    async with batching(device, slow) as (_, lane):
        async with asyncio.timeout(5):
            assert await lane.submit([number(1)]) == [2]


async def test_a_failure_reaches_only_its_own_callers_and_the_worker_lives(
    batching, device, number
):
    device.poison = 13
    async with batching(device) as (batcher, lane):
        [bad] = await lane.submit([number(13)])
        assert isinstance(bad, ValueError)
        assert await lane.submit([number(1)]) == [2]
        assert batcher.state == "ready"


async def test_a_poisonous_item_fails_alone(batching, device, number, values):
    device.poison = 2
    async with batching(device) as (_, lane):
        held = await device.hold(lane)
        tasks = await submit_each(lane, *map(number, range(4)))
        device.free.set()
        good = values(await asyncio.gather(*tasks))
        await held
    assert [good[0], good[1], good[3]] == [0, 2, 6]
    assert isinstance(good[2], ValueError)
    assert device.batches == [[0, 1, 2, 3], [0, 1], [2, 3], [2], [3]]


async def test_every_caller_gets_an_exception_object_of_its_own(batching, device, number, values):
    device.poison = 7
    async with batching(device) as (_, lane):
        held = await device.hold(lane)
        tasks = await submit_each(lane, number(7), number(7), number(7))
        device.free.set()
        errors = values(await asyncio.gather(*tasks))
        await held
    assert all(isinstance(error, ValueError) for error in errors)
    assert len({id(error) for error in errors}) == 3


async def test_a_batch_that_exhausts_memory_is_halved_until_it_fits(
    batching, device, number, values
):
    device.memory = 1
    reports: list[BatchReport] = []
    async with batching(device, observe=reports.append) as (_, lane):
        held = await device.hold(lane)
        tasks = await submit_each(lane, *map(number, range(4)))
        device.free.set()
        assert values(await asyncio.gather(*tasks)) == [0, 2, 4, 6]
        await held
    assert [len(batch) for batch in device.batches] == [4, 2, 1, 1, 2, 1, 1]
    assert (reports[-1].size, reports[-1].retries) == (4, 6)


async def test_a_single_item_that_exhausts_memory_gets_the_error(batching, device, number):
    device.memory = 0
    async with batching(device) as (_, lane):
        [error] = await lane.submit([number(1)])
    assert isinstance(error, MemoryError)


async def test_a_wrong_number_of_results_is_an_error_for_its_callers(number, limits):
    batcher = DynamicBatcher("test")
    lane = batcher.lane("numbers", lambda items: [0] * (len(items) + 1), limits)
    batcher.start()
    outcomes = await lane.submit([number(1), number(2)])
    assert [(type(each), each.expected, each.actual) for each in outcomes] == [
        (ResultCountError, 1, 2)
    ] * 2
    await batcher.close(5)


async def test_a_cancelled_caller_is_dropped_before_the_forward(batching, device, number):
    async with batching(device) as (batcher, lane):
        held = await device.hold(lane)
        gone, stays = await submit_each(lane, number(1), number(2))
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert batcher.waiting == 1
        device.free.set()
        assert await stays == [4]
        await held
    assert device.batches == [[2]]


async def test_a_caller_cancelled_during_the_forward_harms_nobody(batching, device, number):
    async with batching(device) as (_, lane):
        held = await device.hold(lane)
        held.cancel()
        [other] = await submit_each(lane, number(2))
        device.free.set()
        assert await other == [4]


@pytest.mark.parametrize("hangs_up", [False, True])
async def test_what_is_done_or_dropped_leaves_nothing_to_the_garbage_collector(
    batching, device, number, until, hangs_up
):
    gc.disable()
    try:
        async with batching(device) as (batcher, lane):
            held = await device.hold(lane)
            items = [number(1), number(2)]
            kept = [weakref.ref(item) for item in items]
            waiting = asyncio.create_task(lane.submit(items))
            del items
            await asyncio.sleep(0)
            if hangs_up:
                waiting.cancel()
            device.free.set()
            await asyncio.wait([held, waiting])
            del held, waiting
            await until(lambda: batcher._sleeps_until > -math.inf)
            assert [each() for each in kept] == [None, None]
    finally:
        gc.enable()


async def test_closing_finishes_what_waits_and_takes_nothing_new(device, number, limits):
    batcher = DynamicBatcher("test")
    lane = batcher.lane("numbers", device.forward, limits)
    batcher.start()
    held = await device.hold(lane)
    [waiting] = await submit_each(lane, number(1))
    closing = asyncio.create_task(batcher.close(5))
    await asyncio.sleep(0.01)
    with pytest.raises(BatcherClosedError):
        await lane.submit([number(2)])
    device.free.set()
    assert (await held, await waiting) == ([-2], [2])
    await closing
    assert batcher.state == "closed"


async def test_closing_does_not_wait_longer_than_it_may(device, number, limits):
    batcher = DynamicBatcher("test")
    lane = batcher.lane("numbers", device.forward, limits)
    batcher.start()
    held = await device.hold(lane)
    [waiting] = await submit_each(lane, number(1))
    await batcher.close(0.05)
    outcomes = [*(await held), *(await waiting)]
    assert [type(each) for each in outcomes] == [BatcherClosedError, BatcherClosedError]
    device.free.set()


async def test_closing_a_batcher_that_never_started_is_harmless():
    await DynamicBatcher("test").close(1)


async def test_the_death_of_the_worker_is_told_to_everybody(device, number, limits, caplog):
    batcher = DynamicBatcher("test")

    def die(items):
        device.busy.set()
        assert device.free.wait(5)
        raise SystemExit

    lane = batcher.lane("numbers", die, limits)
    batcher.start()
    held = await device.hold(lane)
    [waiting] = await submit_each(lane, number(1))
    device.free.set()
    outcomes = [*(await held), *(await waiting)]
    assert [type(each) for each in outcomes] == [WorkerDiedError, WorkerDiedError]
    assert batcher.state == "dead"
    with pytest.raises(WorkerDiedError):
        await lane.submit([number(2)])
    assert "died" in caplog.text
    await batcher.close(1)


async def test_a_forward_that_takes_too_long_shows_as_stalled(batching, device):
    async with batching(device, stalled_after_s=0.02) as (batcher, lane):
        assert batcher.state == "ready"
        held = await device.hold(lane)
        await asyncio.sleep(0.05)
        assert batcher.state == "stalled"
        device.free.set()
        await held
        assert batcher.state == "ready"


async def test_a_report_tells_size_cost_and_waits(batching, device, number):
    reports = []
    async with batching(device, observe=reports.append) as (_, lane):
        held = await device.hold(lane)
        tasks = await submit_each(lane, number(1, cost=10), number(2, cost=30))
        await asyncio.sleep(0.02)
        device.free.set()
        await asyncio.gather(held, *tasks)
    assert (reports[1].lane, reports[1].size, reports[1].cost) == ("numbers", 2, 60)
    assert min(reports[1].waits_s) >= 0.02


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 60), st.integers(0, 2)), max_size=30),
    st.sets(st.integers(0, 50), max_size=5),
)
@settings(max_examples=30, deadline=None)
def test_every_caller_gets_its_own_result_in_any_company(number, limits, values, numbers, poisons):
    def forward(items):
        if any(item.value in poisons for item in items):
            raise ValueError("poison")
        return [2 * item.value for item in items]

    async def run() -> list:
        batcher = DynamicBatcher("test")
        lane = batcher.lane("numbers", forward, limits)
        batcher.start()
        calls = [lane.submit([number(v, cost=c, group=g)]) for v, c, g in numbers]
        outcomes = await asyncio.gather(*calls)
        await batcher.close(5)
        return values(outcomes)

    for (value, _, _), outcome in zip(numbers, asyncio.run(run()), strict=True):
        if value in poisons:
            assert isinstance(outcome, ValueError)
        else:
            assert outcome == 2 * value


async def test_a_thread_without_work_rests_once_until_there_is_work_again(batching, device, number):
    rests: list[int] = []
    async with batching(device, rest=lambda: rests.append(1)) as (_, lane):
        await asyncio.sleep(1.3)
        assert rests == [1]
        assert await lane.submit([number(1)]) == [2]
        await asyncio.sleep(0.8)
        assert rests == [1, 1]
