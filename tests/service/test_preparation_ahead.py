"""What is prepared before it is submitted: batches that wait for it, and when none does."""

import asyncio
import gc
import threading
import time
import weakref
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

import pytest

from sightline_service.errors import BatcherClosedError
from sightline_service.preparing import Preparer
from sightline_service.waiting import BatchLimits

pytestmark = pytest.mark.anyio


def ready(*numbers) -> Future:
    """What has been prepared."""
    done = Future()
    done.set_result(numbers)
    return done


async def test_an_idle_device_waits_for_items_that_are_being_prepared(
    batching, device, number, values
):
    preparing = Future()
    slow = BatchLimits(max_items=4, max_cost=100, max_wait_s=30)

    async with batching(device, slow) as (_, lane):
        late = asyncio.create_task(lane.prepare_and_submit(lambda: preparing))
        early = asyncio.create_task(lane.prepare_and_submit(lambda: ready(number(1))))
        await asyncio.sleep(0.02)
        assert device.batches == []
        threading.Thread(target=preparing.set_result, args=([number(2)],)).start()
        assert values(await asyncio.gather(early, late)) == [2, 4]
    assert device.batches == [[1, 2]]


async def test_the_owner_thread_sleeps_while_a_batch_gathers(
    batching, device, number, values, monkeypatch
):
    preparing = Future()
    slow = BatchLimits(max_items=100, max_cost=100, max_wait_s=30)

    def start(value: int) -> Future:
        return ready(number(value)) if value > 0 else preparing

    async with batching(device, slow) as (batcher, lane):
        cuts = []
        cut = batcher._room.cut
        monkeypatch.setattr(
            batcher._room, "cut", lambda *now, **how: cuts.append(0) or cut(*now, **how)
        )
        tasks = []
        for value in range(50):
            tasks.append(asyncio.create_task(lane.prepare_and_submit(partial(start, value))))
            await asyncio.sleep(0.001)
        preparing.set_result([number(0)])
        assert values(await asyncio.gather(*tasks)) == [2 * value for value in range(50)]
        assert len(device.batches) == 1
        assert len(cuts) <= 4  # for the first one's deadline, for the batch, and after it


async def test_an_entry_with_an_earlier_deadline_wakes_the_owner_thread(
    batching, device, number, limits
):
    preparing = Future()

    async with batching(device, BatchLimits(4, 100, max_wait_s=30)) as (batcher, patient):
        hasty = batcher.lane("hasty", device.forward, limits)
        pending = [
            asyncio.create_task(lane.prepare_and_submit(lambda: preparing))
            for lane in (patient, hasty)
        ]
        await asyncio.sleep(0)
        waits = asyncio.create_task(patient.submit([number(1)]))
        await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            assert await hasty.submit([number(2)]) == [4]
        assert not waits.done()
        preparing.set_result([])
        await asyncio.gather(*pending)
        assert await waits == [2]


async def test_waiting_for_company_ends_after_max_wait(batching, device, number, limits):
    preparing = Future()

    async with batching(device) as (_, lane):
        late = asyncio.create_task(lane.prepare_and_submit(lambda: preparing))
        await asyncio.sleep(0)
        started = time.monotonic()
        assert await lane.submit([number(1)]) == [2]
        assert time.monotonic() - started >= 0.8 * limits.max_wait_s
        preparing.set_result([])
        assert await late == []


async def test_a_failed_preparation_is_no_longer_waited_for(batching, device, number):
    slow = BatchLimits(max_items=4, max_cost=100, max_wait_s=30)

    def not_started() -> Future:
        raise ValueError("no thread")

    async with batching(device, slow) as (_, lane):
        broken = Future()
        broken.set_exception(ValueError("no image"))
        with pytest.raises(ValueError, match="no image"):
            await lane.prepare_and_submit(lambda: broken)
        with pytest.raises(ValueError, match="no thread"):
            await lane.prepare_and_submit(not_started)
        async with asyncio.timeout(5):
            assert await lane.submit([number(1)]) == [2]


async def test_a_failed_preparation_leaves_nothing_to_the_garbage_collector(batching, device):
    class Pixels:
        pass

    kept = []

    def prepare() -> list:
        pixels = Pixels()
        kept.append(weakref.ref(pixels))
        raise ValueError("no image")

    preparer = Preparer(1)
    gc.disable()
    try:
        async with batching(device) as (_, lane):
            for size in (1, 10**6):
                with suppress(ValueError):
                    await lane.prepare_and_submit(
                        lambda size=size: preparer.start("prepare", prepare, size=size)
                    )
            await preparer.run("prepare", lambda: None)  # the thread lets go of what it ran
        assert [each() for each in kept] == [None, None]
    finally:
        gc.enable()
        preparer.close()


async def test_what_is_prepared_for_a_caller_who_hung_up_is_not_run(batching, device, number):
    running, waiting = Future(), Future()
    running.set_running_or_notify_cancel()
    slow = BatchLimits(max_items=4, max_cost=100, max_wait_s=30)
    async with batching(device, slow) as (batcher, lane):
        callers = [
            asyncio.create_task(lane.prepare_and_submit(lambda each=each: each))
            for each in (running, waiting)
        ]
        await asyncio.sleep(0)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        assert waiting.cancelled()
        running.set_result([number(7)])
        async with asyncio.timeout(5):
            assert await lane.submit([number(1)]) == [2]
        assert batcher.waiting == 0
    assert device.batches == [[1]]


async def test_nobody_waits_for_what_is_dropped_or_comes_too_late(batching, device, number):
    dropped, late = Future(), Future()
    async with batching(device) as (batcher, lane):
        first = asyncio.create_task(lane.prepare_and_submit(lambda: dropped))
        second = asyncio.create_task(lane.prepare_and_submit(lambda: late))
        await asyncio.sleep(0)
        dropped.cancel()
        with pytest.raises(BatcherClosedError):
            await first
        await batcher.close(5)
        late.set_result([number(1)])
        with pytest.raises(BatcherClosedError):
            await second


async def test_nothing_waits_for_what_will_not_come_soon(batching, device, number):
    preparing = Future()
    slow = BatchLimits(max_items=4, max_cost=100, max_wait_s=30)
    async with batching(device, slow) as (_, lane):
        late = asyncio.create_task(lane.prepare_and_submit(lambda: preparing, soon=False))
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            assert await lane.submit([number(1)]) == [2]
        preparing.set_result([number(2)])
        assert await late == [4]


async def test_preparation_runs_at_most_two_batches_ahead_of_the_device(
    batching, device, number, limits, values
):
    prepared = []

    def start(value: int) -> Future:
        prepared.append(value)
        return ready(number(value))

    async with batching(device) as (_, lane):
        held = await device.hold(lane)
        tasks = [
            asyncio.create_task(lane.prepare_and_submit(partial(start, value)))
            for value in range(20)
        ]
        await asyncio.sleep(0.02)
        assert prepared == list(range(2 * limits.max_items))
        device.free.set()
        assert values(await asyncio.gather(*tasks)) == [2 * value for value in range(20)]
        await held
