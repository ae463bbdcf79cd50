"""What more entities and more requests cost: it should be nothing. Knows CPU time and memory.

`python -m sightline_bench.growth entities` and `.. requests [N]` print a Markdown table each.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline_bench.client import Order
from sightline_bench.load import caption
from sightline_bench.measuring import generate
from sightline_bench.systems import Replicas, Starter
from sightline_bench.weights import write_model
from sightline_core.entities import Vocabulary, find_spans, load_vocabulary

BUILD = Path(__file__).parents[2] / "build"
_SIZES = (1, 10, 100, 1_000, 10_000)
_CAPTIONS = 400
_PASSES = 7
_WINDOW_S = 8.0
_UNITS_APART = 1_000_000


@dataclass(frozen=True, slots=True)
class Stretch:
    """The server after so many requests: CPU seconds of the last stretch per request, bytes."""

    requests: int
    cpu_s: float
    memory_bytes: int


def vocabulary_of(size: int) -> Vocabulary:
    """Returns a vocabulary of `size` phrases, those of "dog" first, then shipped, then made up."""
    shipped = load_vocabulary().forms
    phrases = sorted(shipped, key=lambda phrase: shipped[phrase].entity != "dog")[:size]
    dog = shipped[phrases[0]]
    made_up = (f"gadget{n} of brass" for n in range(size - len(phrases)))
    return Vocabulary({phrase: shipped.get(phrase, dog) for phrase in (*phrases, *made_up)})


def seconds_per_caption(vocabulary: Vocabulary) -> float:
    """Returns the least CPU time of several passes; names are found in captions about one dog."""
    captions = [caption(12 * 24 * n).replace("small", "red") for n in range(_CAPTIONS)]
    passes: list[float] = []
    for _ in range(_PASSES):
        started = time.process_time()
        for text in captions:
            find_spans(text, vocabulary)
        passes.append((time.process_time() - started) / len(captions))
    return min(passes)


def entities() -> Iterator[str]:
    """Yields the rows of a table of vocabularies of several sizes."""
    yield "| phrases | CPU us per caption |\n|---|---|\n"
    for size in _SIZES:
        yield f"| {size} | {1e6 * seconds_per_caption(vocabulary_of(size)):.1f} |\n"


def stretches(server: Replicas, pictures: Path, wanted: int) -> Iterator[Stretch]:
    """Asks about distinct thumbnails, window by window, until `wanted` requests are answered."""
    done = windows = 0
    while done < wanted:
        windows += 1
        before = sum(process.usage().cpu_s for process in server.processes)
        now = time.monotonic()
        order = Order(
            ports=server.ports,
            dialect="sentence-protobuf",
            load="thumbnails",
            pictures=str(pictures),
            connections=32,
            start=windows * _UNITS_APART,
            begin=now,
            end=now + _WINDOW_S,
        )
        [taken] = generate([order])
        if taken.failures:
            raise RuntimeError(taken.failures[0])
        usages = [process.usage() for process in server.processes]
        answered = len(taken.latencies)
        done += answered
        cpu = sum(usage.cpu_s for usage in usages) - before
        yield Stretch(done, cpu / answered, sum(usage.memory_bytes for usage in usages))


def requests(wanted: int) -> Iterator[str]:
    """Yields the rows of a table of one server with small caches, request by request."""
    work = BUILD / "bench"
    logs = work / "logs" / "growth"
    logs.mkdir(parents=True, exist_ok=True)
    starter = Starter(write_model(work / "models", "tiny"), "none", build=BUILD, logs=logs)
    server = starter.start("sightline-small-caches")
    yield "| requests | CPU ms per request | MB |\n|---|---|---|\n"
    try:
        server.wait_until_ready()
        for each in stretches(server, work / "pictures", wanted):
            megabytes = each.memory_bytes / 1e6
            yield f"| {each.requests} | {1000 * each.cpu_s:.2f} | {megabytes:.0f} |\n"
    finally:
        server.stop()


def main(argv: Sequence[str]) -> int:
    """Prints one table; returns the exit status."""
    what, *rest = argv or ["entities"]
    rows = requests(int(rest[0]) if rest else 100_000) if what == "requests" else entities()
    for row in rows:
        sys.stdout.write(row)
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
