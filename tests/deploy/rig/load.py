"""Clients that ask without a pause and compare every answer. Knows the SDK; knows no cluster."""

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import PIL.Image

from sightline import RewardClient

TEXTS = ["A dog and a cat.", "A bus on a street.", "Two giraffes."]


def picture(seed: int) -> bytes:
    """A PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PICTURES = [picture(seed) for seed in range(24)]


def scores(client: RewardClient, image: bytes) -> tuple[float, ...]:
    """What the service says of one picture."""
    return tuple(result.cosine for result in client.sentence_reward(image, TEXTS))


@dataclass
class Tally:
    """What came of the questions."""

    answered: int = 0
    failures: list[str] = field(default_factory=list[str])
    wrong: int = 0
    slowest_s: float = 0.0


class Load:
    """Some threads with one client.

    Args:
        url: the service.
        key: its key.
        expected: the right scores of each picture.
    """

    def __init__(self, url: str, key: str, expected: list[tuple[float, ...]]) -> None:
        self.tally = Tally()
        self._client = RewardClient(url, api_key=key, timeout_s=60)
        self._expected = expected
        self._ends = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(4)]

    def _ask(self, number: int) -> None:
        turn = number
        while not self._ends.is_set():
            turn = (turn + 1) % len(PICTURES)
            began = time.monotonic()
            try:
                found = scores(self._client, PICTURES[turn])
            except Exception as error:  # noqa: BLE001 - whatever fails is what is counted
                with self._lock:
                    self.tally.failures.append(f"{type(error).__name__}: {error}")
                continue
            with self._lock:
                self.tally.answered += 1
                self.tally.wrong += not np.allclose(found, self._expected[turn], atol=1e-5)
                self.tally.slowest_s = max(self.tally.slowest_s, time.monotonic() - began)

    def answer_more(self, number: int, timeout_s: float = 600) -> None:
        """Waits until so many more questions are answered.

        Raises:
            TimeoutError: they are not.
        """
        goal, deadline = self.tally.answered + number, time.monotonic() + timeout_s
        while self.tally.answered < goal:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.tally.answered} answered, {self.tally.failures[-3:]}")
            time.sleep(0.05)

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """Asks while the block runs."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._ends.set()
            for thread in self._threads:
                thread.join()
            self._client.close()
