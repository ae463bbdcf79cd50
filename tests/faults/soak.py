"""A service under steady load: does memory grow, do scores drift, is a request lost?

    python tests/faults/soak.py --minutes 30 --load 0.8 --out build/soak.json

Measures first what the service can do with callers who never pause, then asks at a share of that
for as long as wanted, with the embedded models, and compares every answer with the first one to
the same question. Exit status 1 where an answer was lost, changed, or memory grew too fast.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from pictures import png
from victim import FAKES, WORLD, Victim

from sightline import RewardClient, SightlineError
from sightline.images import to_image
from sightline_proto import (
    GroundItem,
    GroundRequest,
    PerplexityItem,
    PerplexityRequest,
    SentenceRewardItem,
    SentenceRewardRequest,
    TokenRewardItem,
    TokenRewardRequest,
)
from sightline_proto.endpoints import Request

CALLERS, PICTURES = 8, 64
CALIBRATION_S, WARM_UP_SHARE, SAMPLE_S = 20.0, 0.2, 5.0
MOST_GROWTH_MIB_PER_MIN = 1.0
COLUMNS = """\
| for | load held | answered | lost | changed | p50 / p99 | memory after the warm-up |
|---|---|---|---|---|---|---|"""
TEXTS = ("A dog sits on a chair. A cat is near it.", "There is a red bus and a banana.")


@dataclass
class Tally:
    """What came of the questions so far; safe from any thread."""

    answered: int = 0
    lost: int = 0
    changed: int = 0
    seconds: list[float] = field(default_factory=list)
    first: dict[int, object] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, number: int, items: object, seconds: float) -> None:
        with self.lock:
            self.answered += 1
            self.seconds.append(seconds)
            self.changed += self.first.setdefault(number, items) != items


@dataclass(frozen=True)
class Result:
    """The figures of one soak, as they are published."""

    minutes: float
    capacity_per_s: float
    load_per_s: float
    answered: int
    lost: int
    changed: int
    p50_ms: float
    p99_ms: float
    rss_first_mib: float
    rss_last_mib: float
    rss_slope_mib_per_min: float

    @property
    def passed(self) -> bool:
        grown = self.rss_slope_mib_per_min >= MOST_GROWTH_MIB_PER_MIN
        return not (self.lost or self.changed or grown)

    @property
    def row(self) -> str:
        """A line of the table in docs/reliability.md."""
        memory = f"{self.rss_first_mib:.0f} to {self.rss_last_mib:.0f} MiB"
        cells = [
            f"{self.minutes:g} min",
            f"{self.load_per_s:.1f} of {self.capacity_per_s:.1f} /s",
            str(self.answered),
            str(self.lost),
            str(self.changed),
            f"{self.p50_ms:.0f} / {self.p99_ms:.0f} ms",
            f"{memory}, {self.rss_slope_mib_per_min:+.2f} MiB/min",
        ]
        return f"| {' | '.join(cells)} |"


def questions() -> list[Request]:
    """Four for each of 64 pictures: one for each endpoint."""
    asked: list[Request] = []
    for seed in range(PICTURES):
        image = to_image(png(seed, (128, 128)))
        asked += [
            TokenRewardRequest(items=(TokenRewardItem(image=image, texts=TEXTS),)),
            SentenceRewardRequest(items=(SentenceRewardItem(image=image, texts=TEXTS),)),
            GroundRequest(items=(GroundItem(image=image, phrases=("dog", "bus")),)),
            PerplexityRequest(items=(PerplexityItem(image=image, texts=TEXTS),)),
        ]
    return asked


def ask_for(client: RewardClient, tally: Tally, seconds: float, per_s: float | None) -> float:
    """Asks for so long, `per_s` times a second or without pause; returns the rate reached."""
    asked, began, before = questions(), time.monotonic(), tally.answered

    def caller(seed: int) -> None:
        draw = random.Random(seed)
        due = began
        while time.monotonic() < began + seconds:
            if per_s is not None:
                due += draw.expovariate(per_s / CALLERS)
                time.sleep(max(0.0, due - time.monotonic()))
            number, started = draw.randrange(len(asked)), time.monotonic()
            try:
                items = client.send(asked[number]).items
            except SightlineError as error:
                sys.stderr.write(f"lost: {error}\n")
                with tally.lock:
                    tally.lost += 1
            else:
                tally.add(number, items, time.monotonic() - started)

    with ThreadPoolExecutor(CALLERS) as pool:
        for done in [pool.submit(caller, seed) for seed in range(CALLERS)]:
            done.result()
    return (tally.answered - before) / (time.monotonic() - began)


def rss_mib(process_id: int) -> float:
    """Resident memory."""
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def soak(victim: Victim, minutes: float, load: float) -> Result:
    tally, samples, over = Tally(), [], threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_S):
            samples.append((time.monotonic() / 60, rss_mib(victim.process.pid)))

    with victim.client(timeout_s=120, max_concurrency=CALLERS) as client:
        ask_for(client, tally, CALIBRATION_S, None)  # warms the caches up
        capacity = ask_for(client, tally, CALIBRATION_S, None)
        tally.seconds.clear()
        watcher = threading.Thread(target=watch)
        watcher.start()
        reached = ask_for(client, tally, 60 * minutes, load * capacity)
        over.set()
        watcher.join()
    steady = samples[int(len(samples) * WARM_UP_SHARE) :]
    slope = float(np.polyfit(*zip(*steady, strict=True), 1)[0])
    p50, p99 = np.percentile(tally.seconds, [50, 99]) * 1000
    return Result(
        minutes=minutes,
        capacity_per_s=round(capacity, 2),
        load_per_s=round(reached, 2),
        answered=tally.answered,
        lost=tally.lost,
        changed=tally.changed,
        p50_ms=round(float(p50), 1),
        p99_ms=round(float(p99), 1),
        rss_first_mib=round(steady[0][1], 1),
        rss_last_mib=round(steady[-1][1], 1),
        rss_slope_mib_per_min=round(slope, 3),
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--load", type=float, default=0.8, help="share of the capacity")
    parser.add_argument("--fakes", action="store_true", help="without models: the service alone")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        victim = Victim(FAKES if options.fakes else WORLD, Path(folder))
        try:
            victim.await_ready()
            result = soak(victim, options.minutes, options.load)
        finally:
            victim.kill()
    figures = json.dumps(asdict(result) | {"passed": result.passed}, indent=1)
    sys.stdout.write(f"{figures}\n{COLUMNS}\n{result.row}\n")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(figures + "\n", "utf-8")
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
