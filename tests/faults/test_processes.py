"""The embedded models in a process that is killed, frozen and drained under load."""

import re
import resource
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from pictures import png
from victim import WORLD, Victim

from sightline import RewardClient, errors
from sightline.images import to_image
from sightline_proto import (
    GroundItem,
    GroundRequest,
    PerplexityItem,
    PerplexityRequest,
    TokenRewardItem,
    TokenRewardRequest,
)

TEXTS = ("A dog sits on a chair. A cat is near it.", "There is a red bus.")


def questions() -> list[TokenRewardRequest | GroundRequest | PerplexityRequest]:
    """Twelve: four pictures for each of the three models."""
    images = [to_image(png(seed, (96, 96))) for seed in range(4)]
    return [
        *(TokenRewardRequest(items=(TokenRewardItem(image=i, texts=TEXTS),)) for i in images),
        *(GroundRequest(items=(GroundItem(image=i, phrases=("dog", "bus")),)) for i in images),
        *(PerplexityRequest(items=(PerplexityItem(image=i, texts=TEXTS),)) for i in images),
    ]


@pytest.fixture
def world(start) -> Victim:
    return start(models=WORLD)


def asked(client: RewardClient) -> list[object]:
    return [client.send(question).items for question in questions()]


class Load:
    """Callers who ask the same questions again and again, each with patience, until stopped."""

    def __init__(self, client: RewardClient, callers: int) -> None:
        self._client = client
        self._stopped = threading.Event()
        self._answered = threading.Semaphore(0)
        self._pool = ThreadPoolExecutor(callers)
        self._running = [self._pool.submit(self._ask, n) for n in range(callers)]

    def _ask(self, shift: int) -> list[tuple[int, object]]:
        answers, ask = [], questions()
        while not self._stopped.is_set():
            n = (len(answers) + shift) % len(ask)
            answers.append((n, self._client.send(ask[n]).items))
            self._answered.release()
        return answers

    def await_answers(self, count: int) -> None:
        """Returns when so many more answers have come."""
        for _ in range(count):
            assert self._answered.acquire(timeout=120)

    def stop(self) -> list[tuple[int, object]]:
        """All answers, with the question's number; raises what a caller met."""
        self._stopped.set()
        self._pool.shutdown()
        return [answer for each in self._running for answer in each.result()]


def test_killed_and_started_again_under_load_the_service_loses_and_changes_no_answer(start, world):
    with RewardClient(world.url, timeout_s=240, retries=100) as client:
        expected = asked(client)
        load = Load(client, 6)
        load.await_answers(12)
        world.kill()
        time.sleep(1)
        again = start(models=WORLD, port=world.port)
        load.await_answers(24)
        answers = load.stop()
    assert all(items == expected[n] for n, items in answers)
    assert again.metric("sightline_requests", outcome="ok") > 0


def test_frozen_for_30_seconds_the_service_keeps_nobody_beyond_the_deadline_and_recovers(world):
    with world.client(timeout_s=240) as patient, world.client(timeout_s=5) as hasty:
        expected = asked(patient)
        world.freeze()
        frozen_at = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            waiting: list[Future[list[object]]] = [pool.submit(asked, patient) for _ in range(3)]
            for _ in range(3):
                started = time.monotonic()
                with pytest.raises(errors.DeadlineError):
                    hasty.perplexity("A dog.")
                assert time.monotonic() - started < 7
            time.sleep(max(0.0, 30 - (time.monotonic() - frozen_at)))
            world.thaw()
            assert [each.result() for each in waiting] == [expected] * 3
        world.await_ready(60)
        assert asked(patient) == expected


def test_drained_under_load_the_service_answers_all_that_it_accepted(world):
    with world.client(timeout_s=120, retries=0, max_concurrency=16) as client:
        expected = asked(client)
        before = world.metric("sightline_requests", outcome="ok")
        with ThreadPoolExecutor(16) as pool:
            sent = [(n % 12, pool.submit(client.send, questions()[n % 12])) for n in range(48)]
            time.sleep(0.5)
            world.process.send_signal(signal.SIGTERM)
            assert world.process.wait(60) == 0
            failures = [future.exception() for _, future in sent]
    assert before > 0
    for (n, future), failure in zip(sent, failures, strict=True):
        if failure is None:
            assert future.result().items == expected[n]
        else:
            refused = getattr(failure, "code", None) == "draining"
            assert refused or "refused" in str(failure), "cut off in the middle"
    assert any(failure is None for failure in failures)


def test_a_full_disk_costs_the_log_and_no_answer(start):
    victim = start()
    with victim.client(timeout_s=60, retries=0) as client:
        expected = asked(client)
        written = victim.log_file.stat().st_size
        # From here on, every write to any file fails.
        resource.prlimit(victim.process.pid, resource.RLIMIT_FSIZE, (0, 0))
        assert [asked(client) for _ in range(3)] == [expected] * 3
    assert victim.log_file.stat().st_size == written
    assert victim.status("/readyz") == 200


def test_no_clock_that_can_jump_decides_anything():
    """Wall clocks are set and leap; they may stamp logs and traces, and date headers be read."""
    allowed = {"logs.py", "otlp.py", "retry.py"}
    sources = [*Path("services").rglob("*.py"), *Path("clients/sightline").rglob("*.py")]
    wall = re.compile(r"time\.time\(|datetime\.now\(|\.utcnow\(|fromtimestamp\(")
    assert {path.name for path in sources if wall.search(path.read_text("utf-8"))} <= allowed
    assert len(sources) > 80
