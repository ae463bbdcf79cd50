"""How much the service takes at once. Knows counts and bytes; knows no HTTP and no models."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from sightline_proto import (
    GroundItem,
    GroundRequest,
    PerplexityRequest,
    SentenceRewardRequest,
    TokenRewardRequest,
)
from sightline_service.errors import DrainingError, OverloadedError
from sightline_service.fairness import caller

Request = TokenRewardRequest | SentenceRewardRequest | GroundRequest | PerplexityRequest

_LONGEST_RETRY_S = 60
_MEMORY_S = 10.0
"""Seconds over which the throughput is averaged."""


def cost_of(request: Request) -> int:
    """Returns the images plus the texts (or phrases) that a request asks to score."""
    return sum(
        (item.image is not None)
        + (len(item.phrases or (item.text,)) if isinstance(item, GroundItem) else len(item.texts))
        for item in request.items
    )


@dataclass(slots=True)
class _Throughput:
    """An exponentially fading average of what is finished per second."""

    clock: Callable[[], float]
    rate: float = 0.0
    last: float | None = None

    def finished(self, amount: int) -> None:
        now = self.clock()
        elapsed = 0.0 if self.last is None else now - self.last
        self.last = now
        self.rate = self.rate * math.exp(-elapsed / _MEMORY_S) + amount / _MEMORY_S


class Admission:
    """The bounds that are checked at the door: requests, items and body bytes at a time.

    An idle service admits any one request, so that every request within the contract's limits can
    be served by someone who tries again.

    Args:
        max_requests: requests in progress.
        max_items: images plus texts of the requests in progress.
        max_bytes: body bytes held for them.
        share: of the requests and items that one caller may hold, at most 1.
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self,
        *,
        max_requests: int,
        max_items: int,
        max_bytes: int,
        share: Callable[[], float] = lambda: 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_requests = max_requests
        self.max_items = max_items
        self.max_bytes = max_bytes
        self.requests = 0
        self.items = 0
        self.bytes = 0
        self.draining = False
        self._share = share
        self._requests_of: Counter[str] = Counter()
        self._items_of: Counter[str] = Counter()
        self.idle = asyncio.Event()
        self.idle.set()
        self._throughput = _Throughput(clock)

    @contextmanager
    def request(self) -> Generator["BodyBudget"]:
        """Holds one place for a request, and a budget for its body, until the block ends.

        Raises:
            DrainingError: the service takes nothing new.
            OverloadedError: all places are taken, or all that this caller may hold.
        """
        if self.draining:
            raise DrainingError
        if self.requests >= self.max_requests:
            raise OverloadedError("max_concurrent_requests", self.retry_after_s())
        name = caller.get()
        if self._requests_of[name] >= max(1, int(self._share() * self.max_requests)):
            raise OverloadedError("caller_share", self.retry_after_s())
        self.requests += 1
        self._requests_of[name] += 1
        self.idle.clear()
        budget = BodyBudget(self)
        try:
            yield budget
        finally:
            self.requests -= 1
            _less(self._requests_of, name, 1)
            budget.release()
            if not self.requests:
                self.idle.set()

    @contextmanager
    def work(self, cost: int) -> Generator[None]:
        """Holds room for `cost` images and texts until the block ends.

        Raises:
            OverloadedError: they do not fit beside those in progress, of all or of this caller.
        """
        if self.items and self.items + cost > self.max_items:
            raise OverloadedError("max_queue_items", self.retry_after_s())
        name = caller.get()
        held = self._items_of[name]
        if held and held + cost > self._share() * self.max_items:
            raise OverloadedError("caller_share", self.retry_after_s())
        self.items += cost
        self._items_of[name] += cost
        try:
            yield
            self._throughput.finished(cost)
        finally:
            self.items -= cost
            _less(self._items_of, name, cost)

    def retry_after_s(self) -> int:
        """Estimates, from the recent throughput, when half of what is queued will be done."""
        if not self._throughput.rate:
            return 1
        seconds = self.items / 2 / self._throughput.rate
        return max(1, min(_LONGEST_RETRY_S, math.ceil(seconds)))


def _less(counts: Counter[str], name: str, amount: int) -> None:
    """Forgets a caller who holds nothing, so that there are as many counts as callers."""
    counts[name] -= amount
    if not counts[name]:
        del counts[name]


class BodyBudget:
    """The bytes that one request holds of the budget that all bodies share."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._bytes = 0

    def reserve(self, n_bytes: int) -> None:
        """Takes `n_bytes` more; the only body in the house may be of any size.

        Raises:
            OverloadedError: they do not fit beside the other bodies.
        """
        admission = self._admission
        others = admission.bytes - self._bytes
        if others and admission.bytes + n_bytes > admission.max_bytes:
            raise OverloadedError("max_inflight_bytes", admission.retry_after_s())
        self._bytes += n_bytes
        admission.bytes += n_bytes

    def release(self) -> None:
        """Gives everything back."""
        self._admission.bytes -= self._bytes
        self._bytes = 0
