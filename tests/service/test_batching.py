import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_service.batching import DynamicBatcher, Lane
from sightline_service.calls import BatchReport
from sightline_service.errors import BatcherClosedError, ResultCountError, WorkerDiedError
from sightline_service.preparing import Preparer
from sightline_service.waiting import BatchLimits

pytestmark = pytest.mark.anyio

LIMITS = BatchLimits(max_items=4, max_cost=100, max_wait_s=0.05)


@dataclass(frozen=True)
class Number:
    value: int
    cost: int = 1
    group: Hashable = None


class Device:
    """A model that doubles numbers, and can be held up, fail, or run out of memory."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = threading.Event()
        self.free.set()
        self.busy = threading.Event()
        self.poison: int | None = None
        self.memory: int | None = None

    def forward(self, items: Sequence[Number]) -> list[int]:
        values = [item.value for item in items]
        self.batches.append(values)
        self.busy.set()
        assert self.free.wait(5)
        if self.memory is not None and len(values) > self.memory:
            raise MemoryError(len(values))
        if self.poison in values:
            raise ValueError(f"poison among {len(values)}")
        return [2 * value for value in values]

    async def hold(self, lane: Lane) -> asyncio.Task:
        """Occupies the device with one item, so that what follows has to wait."""
        self.free.clear()
        self.busy.clear()
        task = asyncio.create_task(lane.submit([Number(-1)]))
        await asyncio.to_thread(self.busy.wait, 5)
        self.batches.clear()
        return task


@asynccontextmanager
async def batching(device: Device, limits: BatchLimits = LIMITS, **options):
    batcher = DynamicBatcher("test", **options)
    lane = batcher.lane("numbers", device.forward, limits)
    batcher.start()
    try:
        yield batcher, lane
    finally:
        device.free.set()
        await batcher.close(5)


def ready(*numbers: Number) -> Future:
    """What has been prepared."""
    done = Future()
    done.set_result(numbers)
    return done


async def submit_each(lane: Lane, *numbers: Number) -> list[asyncio.Task]:
    tasks = []
    for number in numbers:
        tasks.append(asyncio.create_task(lane.submit([number])))
        await asyncio.sleep(0)
    return tasks


def values(outcomes: list) -> list:
    return [outcome for [outcome] in outcomes]


async def test_what_arrives_while_the_device_is_busy_shares_batches():
    device = Device()
    async with batching(device) as (_, lane):
        held = await device.hold(lane)
        tasks = await submit_each(lane, *map(Number, range(6)))
        device.free.set()
        assert values(await asyncio.gather(*tasks)) == [0, 2, 4, 6, 8, 10]
        assert await held == [-2]
    assert device.batches == [[0, 1, 2, 3], [4, 5]]


async def test_one_call_may_span_batches_and_keeps_its_order():
    device = Device()
    async with batching(device) as (_, lane):
        assert await lane.submit([Number(n) for n in range(10)]) == [2 * n for n in range(10)]
        assert await lane.submit([]) == []
    assert sum(map(len, device.batches)) == 10


async def test_batches_hold_equal_groups_only():
    device = Device()
    async with batching(device) as (_, lane):
        held = await device.hold(lane)
        numbers = [Number(n, group=("even", "odd")[n % 2]) for n in range(6)]
        tasks = await submit_each(lane, *numbers)
        device.free.set()
        await asyncio.gather(held, *tasks)
    assert device.batches == [[0, 2, 4], [1, 3, 5]]


async def test_lanes_share_the_thread_and_never_a_batch():
    device, threads = Device(), set()

    def other(items):
        threads.add(threading.current_thread().name)
        return [item.value + 1 for item in items]

    async with batching(device) as (batcher, lane):
        second = batcher.lane("other", other, LIMITS)
        doubled, next_one = await asyncio.gather(
            lane.submit([Number(5)]), second.submit([Number(5)])
        )
    assert (doubled, next_one) == ([10], [6])
    assert threads == {"test-owner"}


async def test_a_lone_item_on_an_idle_device_is_not_held_up():
    device = Device()
    slow = BatchLimits(max_items=4, max_cost=100, max_wait_s=30)
    async with batching(device, slow) as (_, lane):
        async with asyncio.timeout(5):
            assert await lane.submit([Number(1)]) == [2]


async def test_an_idle_device_waits_for_items_that_are_being_prepared():
    device, preparing = Device(), Future()
    slow = BatchLimits(max_items=4, max_cost=100, max_wait_s=30)

    async with batching(device, slow) as (_, lane):
        late = asyncio.create_task(lane.prepare_and_submit(lambda: preparing))
        early = asyncio.create_task(lane.prepare_and_submit(lambda: ready(Number(1))))
        await asyncio.sleep(0.02)
        assert device.batches == []
        threading.Thread(target=preparing.set_result, args=([Number(2)],)).start()
        assert values(await asyncio.gather(early, late)) == [2, 4]
    assert device.batches == [[1, 2]]


async def test_the_owner_thread_sleeps_while_a_batch_gathers(monkeypatch):
    device, preparing = Device(), Future()
    slow = BatchLimits(max_items=100, max_cost=100, max_wait_s=30)

    def start(value: int) -> Future:
        return ready(Number(value)) if value > 0 else preparing

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
        preparing.set_result([Number(0)])
        assert values(await asyncio.gather(*tasks)) == [2 * value for value in range(50)]
        assert len(device.batches) == 1
        assert len(cuts) <= 4  # for the first one's deadline, for the batch, and after it


async def test_an_entry_with_an_earlier_deadline_wakes_the_owner_thread():
    device, preparing = Device(), Future()

    async with batching(device, BatchLimits(4, 100, max_wait_s=30)) as (batcher, patient):
        hasty = batcher.lane("hasty", device.forward, LIMITS)
        pending = [
            asyncio.create_task(lane.prepare_and_submit(lambda: preparing))
            for lane in (patient, hasty)
        ]
        await asyncio.sleep(0)
        waits = asyncio.create_task(patient.submit([Number(1)]))
        await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            assert await hasty.submit([Number(2)]) == [4]
        assert not waits.done()
        preparing.set_result([])
        await asyncio.gather(*pending)
        assert await waits == [2]


async def test_waiting_for_company_ends_after_max_wait():
    device, preparing = Device(), Future()

    async with batching(device) as (_, lane):
        late = asyncio.create_task(lane.prepare_and_submit(lambda: preparing))
        await asyncio.sleep(0)
        started = time.monotonic()
        assert await lane.submit([Number(1)]) == [2]
        assert time.monotonic() - started >= 0.8 * LIMITS.max_wait_s
        preparing.set_result([])
        assert await late == []


async def test_a_failed_preparation_is_no_longer_waited_for():
    device = Device()
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
            assert await lane.submit([Number(1)]) == [2]


async def test_a_failed_preparation_leaves_nothing_to_the_garbage_collector():
    class Pixels:
        pass

    kept = []

    def prepare() -> list[Number]:
        pixels = Pixels()
        kept.append(weakref.ref(pixels))
        raise ValueError("no image")

    preparer = Preparer(1)
    gc.disable()
    try:
        async with batching(Device()) as (_, lane):
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


async def test_what_is_prepared_for_a_caller_who_hung_up_is_not_run():
    device, running, waiting = Device(), Future(), Future()
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
        running.set_result([Number(7)])
        async with asyncio.timeout(5):
            assert await lane.submit([Number(1)]) == [2]
        assert batcher.waiting == 0
    assert device.batches == [[1]]


async def test_nobody_waits_for_what_is_dropped_or_comes_too_late():
    device, dropped, late = Device(), Future(), Future()
    async with batching(device) as (batcher, lane):
        first = asyncio.create_task(lane.prepare_and_submit(lambda: dropped))
        second = asyncio.create_task(lane.prepare_and_submit(lambda: late))
        await asyncio.sleep(0)
        dropped.cancel()
        with pytest.raises(BatcherClosedError):
            await first
        await batcher.close(5)
        late.set_result([Number(1)])
        with pytest.raises(BatcherClosedError):
            await second


async def test_nothing_waits_for_what_will_not_come_soon():
    device, preparing = Device(), Future()
    slow = BatchLimits(max_items=4, max_cost=100, max_wait_s=30)
    async with batching(device, slow) as (_, lane):
        late = asyncio.create_task(lane.prepare_and_submit(lambda: preparing, soon=False))
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            assert await lane.submit([Number(1)]) == [2]
        preparing.set_result([Number(2)])
        assert await late == [4]


async def test_preparation_runs_at_most_two_batches_ahead_of_the_device():
    device, prepared = Device(), []

    def start(value: int) -> Future:
        prepared.append(value)
        return ready(Number(value))

    async with batching(device) as (_, lane):
        held = await device.hold(lane)
        tasks = [
            asyncio.create_task(lane.prepare_and_submit(partial(start, value)))
            for value in range(20)
        ]
        await asyncio.sleep(0.02)
        assert prepared == list(range(2 * LIMITS.max_items))
        device.free.set()
        assert values(await asyncio.gather(*tasks)) == [2 * value for value in range(20)]
        await held


async def test_a_failure_reaches_only_its_own_callers_and_the_worker_lives():
    device = Device()
    device.poison = 13
    async with batching(device) as (batcher, lane):
        [bad] = await lane.submit([Number(13)])
        assert isinstance(bad, ValueError)
        assert await lane.submit([Number(1)]) == [2]
        assert batcher.state == "ready"


async def test_a_poisonous_item_fails_alone():
    device = Device()
    device.poison = 2
    async with batching(device) as (_, lane):
        held = await device.hold(lane)
        tasks = await submit_each(lane, *map(Number, range(4)))
        device.free.set()
        good = values(await asyncio.gather(*tasks))
        await held
    assert [good[0], good[1], good[3]] == [0, 2, 6]
    assert isinstance(good[2], ValueError)
    assert device.batches == [[0, 1, 2, 3], [0, 1], [2, 3], [2], [3]]


async def test_every_caller_gets_an_exception_object_of_its_own():
    device = Device()
    device.poison = 7
    async with batching(device) as (_, lane):
        held = await device.hold(lane)
        tasks = await submit_each(lane, Number(7), Number(7), Number(7))
        device.free.set()
        errors = values(await asyncio.gather(*tasks))
        await held
    assert all(isinstance(error, ValueError) for error in errors)
    assert len({id(error) for error in errors}) == 3


async def test_a_batch_that_exhausts_memory_is_halved_until_it_fits():
    device = Device()
    device.memory = 1
    reports: list[BatchReport] = []
    async with batching(device, observe=reports.append) as (_, lane):
        held = await device.hold(lane)
        tasks = await submit_each(lane, *map(Number, range(4)))
        device.free.set()
        assert values(await asyncio.gather(*tasks)) == [0, 2, 4, 6]
        await held
    assert [len(batch) for batch in device.batches] == [4, 2, 1, 1, 2, 1, 1]
    assert (reports[-1].size, reports[-1].retries) == (4, 6)


async def test_a_single_item_that_exhausts_memory_gets_the_error():
    device = Device()
    device.memory = 0
    async with batching(device) as (_, lane):
        [error] = await lane.submit([Number(1)])
    assert isinstance(error, MemoryError)


async def test_a_wrong_number_of_results_is_an_error_for_its_callers():
    batcher = DynamicBatcher("test")
    lane = batcher.lane("numbers", lambda items: [0] * (len(items) + 1), LIMITS)
    batcher.start()
    outcomes = await lane.submit([Number(1), Number(2)])
    assert [(type(each), each.expected, each.actual) for each in outcomes] == [
        (ResultCountError, 1, 2)
    ] * 2
    await batcher.close(5)


async def test_a_cancelled_caller_is_dropped_before_the_forward():
    device = Device()
    async with batching(device) as (batcher, lane):
        held = await device.hold(lane)
        gone, stays = await submit_each(lane, Number(1), Number(2))
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert batcher.waiting == 1
        device.free.set()
        assert await stays == [4]
        await held
    assert device.batches == [[2]]


async def test_a_caller_cancelled_during_the_forward_harms_nobody():
    device = Device()
    async with batching(device) as (_, lane):
        held = await device.hold(lane)
        held.cancel()
        [other] = await submit_each(lane, Number(2))
        device.free.set()
        assert await other == [4]


async def test_closing_finishes_what_waits_and_takes_nothing_new():
    device = Device()
    batcher = DynamicBatcher("test")
    lane = batcher.lane("numbers", device.forward, LIMITS)
    batcher.start()
    held = await device.hold(lane)
    [waiting] = await submit_each(lane, Number(1))
    closing = asyncio.create_task(batcher.close(5))
    await asyncio.sleep(0.01)
    with pytest.raises(BatcherClosedError):
        await lane.submit([Number(2)])
    device.free.set()
    assert (await held, await waiting) == ([-2], [2])
    await closing
    assert batcher.state == "closed"


async def test_closing_does_not_wait_longer_than_it_may():
    device = Device()
    batcher = DynamicBatcher("test")
    lane = batcher.lane("numbers", device.forward, LIMITS)
    batcher.start()
    held = await device.hold(lane)
    [waiting] = await submit_each(lane, Number(1))
    await batcher.close(0.05)
    outcomes = [*(await held), *(await waiting)]
    assert [type(each) for each in outcomes] == [BatcherClosedError, BatcherClosedError]
    device.free.set()


async def test_closing_a_batcher_that_never_started_is_harmless():
    await DynamicBatcher("test").close(1)


async def test_the_death_of_the_worker_is_told_to_everybody(caplog):
    device = Device()
    batcher = DynamicBatcher("test")

    def die(items):
        device.busy.set()
        assert device.free.wait(5)
        raise SystemExit

    lane = batcher.lane("numbers", die, LIMITS)
    batcher.start()
    held = await device.hold(lane)
    [waiting] = await submit_each(lane, Number(1))
    device.free.set()
    outcomes = [*(await held), *(await waiting)]
    assert [type(each) for each in outcomes] == [WorkerDiedError, WorkerDiedError]
    assert batcher.state == "dead"
    with pytest.raises(WorkerDiedError):
        await lane.submit([Number(2)])
    assert "died" in caplog.text
    await batcher.close(1)


async def test_a_forward_that_takes_too_long_shows_as_stalled():
    device = Device()
    async with batching(device, stalled_after_s=0.02) as (batcher, lane):
        assert batcher.state == "ready"
        held = await device.hold(lane)
        await asyncio.sleep(0.05)
        assert batcher.state == "stalled"
        device.free.set()
        await held
        assert batcher.state == "ready"


async def test_a_report_tells_size_cost_and_waits():
    device, reports = Device(), []
    async with batching(device, observe=reports.append) as (_, lane):
        held = await device.hold(lane)
        tasks = await submit_each(lane, Number(1, cost=10), Number(2, cost=30))
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
def test_every_caller_gets_its_own_result_in_any_company(numbers, poisons):
    def forward(items):
        if any(item.value in poisons for item in items):
            raise ValueError("poison")
        return [2 * item.value for item in items]

    async def run() -> list:
        batcher = DynamicBatcher("test")
        lane = batcher.lane("numbers", forward, LIMITS)
        batcher.start()
        calls = [lane.submit([Number(v, cost=c, group=g)]) for v, c, g in numbers]
        outcomes = await asyncio.gather(*calls)
        await batcher.close(5)
        return values(outcomes)

    for (value, _, _), outcome in zip(numbers, asyncio.run(run()), strict=True):
        if value in poisons:
            assert isinstance(outcome, ValueError)
        else:
            assert outcome == 2 * value


async def test_a_thread_without_work_rests_once_until_there_is_work_again():
    rests: list[int] = []
    async with batching(Device(), rest=lambda: rests.append(1)) as (_, lane):
        await asyncio.sleep(1.3)
        assert rests == [1]
        assert await lane.submit([Number(1)]) == [2]
        await asyncio.sleep(0.8)
        assert rests == [1, 1]
