from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sightline_proto import (
    GroundRequest,
    Image,
    PerplexityRequest,
    SentenceRewardRequest,
    TokenRewardRequest,
)
from sightline_service.admission import Admission, cost_of
from sightline_service.errors import DrainingError, OverloadedError
from sightline_service.fairness import caller

IMAGE = Image(b"x")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def admission(clock: Clock | None = None, **bounds: int) -> Admission:
    return Admission(
        **({"max_requests": 2, "max_items": 10, "max_bytes": 100} | bounds), clock=clock or Clock()
    )


def test_a_request_costs_its_images_and_its_texts():
    two_texts = {"image": IMAGE, "texts": ["a", "b"]}
    assert cost_of(TokenRewardRequest(items=[two_texts, two_texts])) == 6
    assert cost_of(SentenceRewardRequest(items=[two_texts])) == 3
    assert cost_of(GroundRequest(items=[{"image": IMAGE, "phrases": ["a", "b", "c"]}])) == 4
    assert cost_of(GroundRequest(items=[{"image": IMAGE, "text": "a b c"}])) == 2
    assert cost_of(PerplexityRequest(items=[{"texts": ["a"]}, {**two_texts}])) == 4


def test_requests_beyond_the_bound_are_refused_until_one_leaves():
    door = admission()
    with door.request():
        with door.request(), pytest.raises(OverloadedError, match="max_concurrent_requests"):
            door.request().__enter__()
        with door.request():
            assert door.requests == 2
    assert door.requests == 0
    assert door.idle.is_set()


def test_items_beyond_the_bound_are_refused():
    door = admission()
    with door.work(8), pytest.raises(OverloadedError, match="max_queue_items"):
        door.work(3).__enter__()
    assert door.items == 0


def test_an_idle_service_admits_any_one_request():
    door = admission()
    with door.work(1000):
        assert door.items == 1000


def test_body_bytes_are_bounded_together_and_given_back():
    door = admission()
    with door.request() as first, door.request() as second:
        first.reserve(60)
        with pytest.raises(OverloadedError, match="max_inflight_bytes"):
            second.reserve(60)
        second.reserve(40)
        assert door.bytes == 100
    assert door.bytes == 0


def test_the_only_body_may_be_of_any_size():
    door = admission()
    with door.request() as budget:
        budget.reserve(60)
        budget.reserve(600)
        assert door.bytes == 660


def test_a_failure_gives_its_place_back():
    door = admission()

    def fail() -> None:
        with door.request() as budget, door.work(3):
            budget.reserve(5)
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        fail()
    assert (door.requests, door.items, door.bytes) == (0, 0, 0)


def test_a_draining_service_takes_nothing_new():
    door = admission()
    door.draining = True
    with pytest.raises(DrainingError):
        door.request().__enter__()


def test_retry_after_follows_the_recent_throughput():
    clock = Clock()
    door = admission(clock, max_items=1000)
    assert door.retry_after_s() == 1
    for _ in range(100):  # 10 a second, for 100 s
        clock.now += 1
        with door.work(10):
            pass
    with door.work(200):
        assert 9 <= door.retry_after_s() <= 11  # half of 200 at 10 a second
    with door.work(10**6):
        assert door.retry_after_s() == 60


def test_an_overloaded_error_carries_the_estimate():
    door = admission(max_requests=1)
    with door.request(), pytest.raises(OverloadedError) as caught:
        door.request().__enter__()
    assert caught.value.retry_after_s == 1
    assert "try again in 1 s" in str(caught.value)


@contextmanager
def calling(name: str) -> Iterator[None]:
    token = caller.set(name)
    yield
    caller.reset(token)


def test_one_caller_leaves_room_for_the_others():
    door = Admission(max_requests=4, max_items=10, max_bytes=10, share=lambda: 0.5)
    with calling("noisy"), door.request(), door.request(), door.work(4):
        with pytest.raises(OverloadedError, match="caller_share"), door.request():
            pass
        with pytest.raises(OverloadedError, match="caller_share"), door.work(2):
            pass
        with calling("quiet"), door.request(), door.request(), door.work(5):
            assert (door.requests, door.items) == (4, 9)
    with calling("noisy"), door.request(), door.work(9):
        assert (door.requests, door.items) == (1, 9), "an idle service admits any one request"
