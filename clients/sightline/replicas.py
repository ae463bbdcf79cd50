"""Which of several equal services to ask next. Knows URLs and times; never asks anything."""

import threading
from collections.abc import Sequence

BREAK_S = 5.0
"""Seconds for which a service that cannot be reached or is not ready is left out."""


class Replicas:
    """Takes base URLs in turn and leaves out, for a while, those that failed. Safe for threads.

    Args:
        urls: one or more base URLs.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = tuple(urls)
        self._turn = 0
        self._resting_until: dict[str, float] = {}
        self._lock = threading.Lock()

    def pick(self, now: float) -> str:
        """Returns the next URL that is not resting, or the one whose rest ends first."""
        with self._lock:
            order = self._urls[self._turn :] + self._urls[: self._turn]
            chosen = min(order, key=lambda url: max(self._resting_until.get(url, now), now))
            self._turn = (self._urls.index(chosen) + 1) % len(self._urls)
            return chosen

    def rest(self, url: str, now: float, seconds: float) -> bool:
        """Leaves `url` out for some seconds; says whether another is awake to take over."""
        with self._lock:
            self._resting_until[url] = now + seconds
            return any(self._resting_until.get(other, now) <= now for other in self._urls)

    def recovered(self, url: str) -> None:
        """Takes `url` back into the turn."""
        with self._lock:
            self._resting_until.pop(url, None)
