import asyncio
import threading

import pytest

from sightline_service.preparing import Preparer

pytestmark = pytest.mark.anyio


async def test_work_runs_on_threads_of_its_stage_and_small_work_at_once():
    preparer = Preparer(1)

    def where() -> str:
        return threading.current_thread().name

    prepare, finish = await preparer.run("prepare", where), await preparer.run("finish", where)
    assert (prepare[:7], finish[:5]) == ("prepare", "clerk")
    assert await preparer.run("prepare", where, size=10) == threading.current_thread().name
    assert await preparer.run("prepare", where, size=10**6) == prepare
    assert preparer.start("prepare", where).result(5) == prepare
    assert preparer.start("prepare", where, size=10).result(0) == threading.current_thread().name
    preparer.close()


async def test_threads_that_prepare_begin_as_they_are_told():
    begun = []
    preparer = Preparer(1, begin=lambda: begun.append(threading.current_thread().name))
    await preparer.run("finish", lambda: None)
    assert begun == []
    for _ in range(2):
        await preparer.run("prepare", lambda: None)
    assert [name[:7] for name in begun] == ["prepare"]
    preparer.close()


async def test_what_is_nearly_done_overtakes_what_has_to_be_prepared():
    preparer, gate = Preparer(1), threading.Event()
    prepares = [asyncio.create_task(preparer.run("prepare", gate.wait)) for _ in range(5)]
    await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        assert await preparer.run("finish", lambda: "done") == "done"
    gate.set()
    assert await asyncio.gather(*prepares) == [True] * 5
    preparer.close()


async def test_work_of_a_cancelled_caller_that_has_not_begun_never_begins():
    preparer, gate, begun = Preparer(1), threading.Event(), []
    first = asyncio.create_task(preparer.run("prepare", gate.wait))
    second = asyncio.create_task(preparer.run("prepare", lambda: begun.append(1)))
    await asyncio.sleep(0.01)
    second.cancel()
    await asyncio.sleep(0)
    gate.set()
    assert await first
    await preparer.run("prepare", lambda: None)
    assert begun == []
    preparer.close()


async def test_every_piece_is_timed_even_one_that_fails():
    seen = []
    preparer = Preparer(1, observe=lambda stage, seconds: seen.append((stage, seconds >= 0)))

    def fail() -> None:
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        await preparer.run("parse", fail)
    with pytest.raises(ValueError, match="bad"):
        preparer.start("prepare", fail, size=1).result(0)
    await preparer.run("finish", lambda: None, size=1)
    assert seen == [("parse", True), ("prepare", True), ("finish", True)]
    preparer.close()
