"""Two at once: results together, failures alone, nothing left behind."""

import asyncio

import pytest

from sightline_service.concurrency import both

pytestmark = pytest.mark.anyio


class Steps:
    """What happened, in order."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def go(self, name: str, *, turns: int = 3, error: Exception | None = None) -> str:
        try:
            for turn in range(turns):
                self.seen.append(f"{name}{turn}")
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.seen.append(f"{name} cancelled")
            raise
        if error is not None:
            raise error
        return name


async def test_two_things_go_on_at_the_same_time():
    steps = Steps()
    assert await both(steps.go("a"), steps.go("b")) == ("a", "b")
    assert steps.seen == ["b0", "a0", "b1", "a1", "b2", "a2"]


async def test_when_the_second_fails_the_first_is_cancelled_before_the_failure_is_raised():
    steps = Steps()
    with pytest.raises(KeyError):
        await both(steps.go("a", turns=9), steps.go("b", turns=1, error=KeyError()))
    assert steps.seen[-1] == "a cancelled"


async def test_when_the_first_fails_its_failure_is_raised():
    steps = Steps()
    with pytest.raises(KeyError):
        await both(steps.go("a", error=KeyError()), steps.go("b"))


async def test_when_both_fail_nobody_is_left_to_complain(caplog):
    steps = Steps()
    with pytest.raises(ValueError, match="b"):
        await both(steps.go("a", turns=1, error=KeyError()), steps.go("b", error=ValueError("b")))
    assert not caplog.records


async def test_a_cancelled_caller_cancels_both():
    steps = Steps()
    caller = asyncio.create_task(both(steps.go("a", turns=99), steps.go("b", turns=99)))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert caller.cancelled()
    assert {"a cancelled", "b cancelled"} <= {*steps.seen}
