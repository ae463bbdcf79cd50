"""What the model itself allows, without HTTP: the measure of everything else. Knows the models.

A process that stays: it reads an order per line (JSON) from standard input and writes a line back.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sightline_bench.load import LOADS, Stream, Unit
from sightline_service.images import DecodeLimits, decode_image
from sightline_service.models.load import load_perplexity, load_similarity
from sightline_service.models.protocols import Prepared, SimilarityModel

BATCH = 32
_THREADS = 2
_LIMITS = DecodeLimits(max_bytes=64 << 20, max_pixels=40_000_000)


@dataclass(frozen=True, slots=True)
class LimitOrder:
    """What to run: the stages, on which load, for how long.

    Attributes:
        kind: "forward": images and texts, prepared beforehand; "floor": with decoding, resizing
            and tokenising; "texts": only texts; "one": a batch of one; "perplexity".
        load: names one of `LOADS`.
        start: the number of the first unit.
        seconds: how long.
    """

    kind: str
    load: str
    start: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LimitTaken:
    """How many units were done in how many seconds."""

    units: int
    seconds: float


class LimitProcess:
    """The process, seen from outside."""

    def __init__(self, model: str, perplexity: str, pictures: Path, log: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sightline_bench.limit", model, perplexity, str(pictures)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("wb"),
            text=True,
            start_new_session=True,
        )

    def run(self, order: LimitOrder) -> LimitTaken:
        """Runs one order and returns what was done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        return LimitTaken(**json.loads(self._process.stdout.readline()))

    def halt(self) -> None:
        """Takes it off the cores."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Lets it run again."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Ends it."""
        self.go_on()
        self._process.terminate()
        self._process.wait()


class _Limits:
    """The stages of scoring, called in a row."""

    def __init__(self, model: str, perplexity: str, pictures: Path) -> None:
        self._model: SimilarityModel = load_similarity(model, device="cpu", dtype="float32")
        self._perplexity = perplexity
        self._captioner: Any = None
        self._pictures = pictures
        self._pool = ThreadPoolExecutor(_THREADS)

    def run(self, order: LimitOrder) -> LimitTaken:
        size = 1 if order.kind == "one" else BATCH
        stream = Stream(LOADS[order.load], self._pictures)
        units = [stream.unit(order.start + n) for n in range(size)]
        step = self._step(order.kind, units)
        step()
        started = time.monotonic()
        done = 0
        while time.monotonic() - started < order.seconds:
            step()
            done += size
        return LimitTaken(done, time.monotonic() - started)

    def _step(self, kind: str, units: Sequence[Unit]) -> Callable[[], object]:
        if kind == "floor":
            return lambda: self._forward(*self._prepared(units))
        if kind == "perplexity":
            batch = self._answers(units)
            return lambda: self._captioner.score(batch)
        images, texts = self._prepared(units)
        return lambda: self._forward([] if kind == "texts" else images, texts)

    def _prepared(self, units: Sequence[Unit]) -> tuple[list[Prepared], list[Prepared]]:
        images = list(self._pool.map(self._prepared_image, units))
        texts = [self._model.prepare_text(text) for unit in units for text in unit.texts]
        return images, texts

    def _prepared_image(self, unit: Unit) -> Prepared:
        return self._model.prepare_image(decode_image(unit.image, _LIMITS))

    def _forward(self, images: Sequence[Prepared], texts: Sequence[Prepared]) -> None:
        if images:
            self._model.embed_images(images)
        for start in range(0, len(texts), 2 * BATCH):
            self._model.embed_texts(texts[start : start + 2 * BATCH])

    def _answers(self, units: Sequence[Unit]) -> list[Prepared]:
        if self._captioner is None:
            self._captioner = load_perplexity(self._perplexity, device="cpu", dtype="float32")
        return [
            self._captioner.prepare(
                decode_image(unit.image, _LIMITS), "Describe the image.", unit.texts[0]
            )
            for unit in units
        ]


def main(model: str, perplexity: str, pictures: str) -> None:
    """Serves orders until standard input ends."""
    limits = _Limits(model, perplexity, Path(pictures))
    for line in sys.stdin:
        taken = limits.run(LimitOrder(**json.loads(line)))
        sys.stdout.write(json.dumps(asdict(taken)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
