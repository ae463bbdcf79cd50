"""Places in turn: hand-made queues, and a property over cancellations."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_service.fairness import FairPlaces, caller

pytestmark = pytest.mark.anyio


def worker(places: FairPlaces, name: str, log: list[str]) -> asyncio.Task[None]:
    async def work() -> None:
        caller.set(name)
        async with places.place():
            log.append(name)
            await asyncio.sleep(0)

    return asyncio.create_task(work())


async def test_a_noisy_caller_delays_a_quiet_one_by_one_turn_and_not_by_its_whole_queue():
    places, log = FairPlaces(1), []
    noisy = [worker(places, "noisy", log) for _ in range(50)]
    await asyncio.sleep(0)
    quiet = [worker(places, "quiet", log) for _ in range(3)]
    await asyncio.gather(*noisy, *quiet)
    assert [n for n, name in enumerate(log) if name == "quiet"] == [3, 5, 7]
    assert len(log) == 53


async def test_one_caller_alone_is_served_in_order_by_as_many_as_there_are_places():
    places, order, inside, most = FairPlaces(3), [], 0, 0

    async def work(n: int) -> None:
        nonlocal inside, most
        async with places.place():
            order.append(n)
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(work(n) for n in range(20)))
    assert order == list(range(20))
    assert most == 3


async def test_a_place_given_to_somebody_who_is_just_leaving_is_passed_on():
    places, log = FairPlaces(1), []
    async with places.place():
        leaver, stayer = worker(places, "a", log), worker(places, "b", log)
        await asyncio.sleep(0)
    leaver.cancel()  # its turn was granted above, and it has not run since
    await asyncio.wait_for(stayer, 1)
    assert log == ["b"]
    assert places.waiting == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=30),
    st.integers(1, 4),
)
def test_whoever_is_cancelled_no_place_is_lost(visits, n_places):
    async def run() -> None:
        places, log = FairPlaces(n_places), []
        tasks = [worker(places, name, log) for name, _ in visits]
        await asyncio.sleep(0)
        for task, (_, leaves) in zip(tasks, visits, strict=True):
            if leaves:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert places.waiting == 0
        held = [places.place() for _ in range(n_places)]
        for place in held:
            await asyncio.wait_for(place.__aenter__(), 1)
        for place in held:
            await place.__aexit__(None, None, None)

    asyncio.run(run())
