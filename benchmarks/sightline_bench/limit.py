"""What the model itself allows, without HTTP: the measure of everything else. Knows the models.

A process that stays: it reads an order per line (JSON) from standard input and writes a line back.
"""

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import open_clip
import PIL.Image
import torch

from sightline_bench.load import LOADS, Stream, Unit
from sightline_bench.process import Session
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
            and tokenising; "texts": only texts; "one": a batch of one; "perplexity" and
            "perplexity floor": answers, prepared beforehand or not; "reward function": what a
            trainer would run itself, which sees an image once per text.
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


class LimitProcess(Session):
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

    def stop(self) -> None:
        """Ends it."""
        self.go_on()
        self._process.terminate()
        self._process.wait()


class _Limits:
    """The stages of scoring, called in a row."""

    def __init__(self, model: str, perplexity: str, pictures: Path) -> None:
        self._model: SimilarityModel = load_similarity(model, device="cpu", dtype="float32")
        self._name = model
        self._perplexity = perplexity
        self._captioner: Any = None
        self._pictures = pictures
        self._pool = ThreadPoolExecutor(_THREADS)

    def run(self, order: LimitOrder) -> LimitTaken:
        size = {"one": 1, "reward function": 4}.get(order.kind, BATCH)
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
        if kind == "reward function":
            return lambda: self._in_process(units)
        if kind == "perplexity floor":
            return lambda: self._scored(units)
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

    def _scored(self, units: Sequence[Unit]) -> object:
        batch = self._answers(units)
        return self._captioner.score(batch)

    def _in_process(self, units: Sequence[Unit]) -> list[float]:
        """A reward function as TRL calls one: an image and a completion for each pair."""
        pairs = [(unit.image, text) for unit in units for text in unit.texts]
        scorer = self._scorer
        rewards: list[float] = []
        for at in range(0, len(pairs), BATCH):
            rewards += scorer(pairs[at : at + BATCH])
        return rewards

    @cached_property
    def _scorer(self) -> "_OpenClipRewards":
        return _OpenClipRewards(self._name)

    def _answers(self, units: Sequence[Unit]) -> list[Prepared]:
        if self._captioner is None:
            self._captioner = load_perplexity(self._perplexity, device="cpu", dtype="float32")
        return [
            self._captioner.prepare(
                decode_image(unit.image, _LIMITS), "Describe the image.", unit.texts[0]
            )
            for unit in units
        ]


class _OpenClipRewards:
    """open_clip as its README shows it, on PIL images and texts."""

    def __init__(self, reference: str) -> None:
        name = reference.removeprefix("open_clip:")
        create: Any = open_clip.create_model_and_transforms
        self._model, _, self._transform = create(name)
        self._model.eval()
        self._tokenizer = open_clip.get_tokenizer(name)

    def __call__(self, pairs: Sequence[tuple[bytes, str]]) -> list[float]:
        """Returns the cosine of each pair."""
        images = [PIL.Image.open(io.BytesIO(data)).convert("RGB") for data, _ in pairs]
        with torch.inference_mode():
            pixels = torch.stack([self._transform(image) for image in images])
            seen = self._model.encode_image(pixels, normalize=True)
            read = self._model.encode_text(
                self._tokenizer([text for _, text in pairs]), normalize=True
            )
            cosines: list[float] = (seen * read).sum(dim=1).tolist()
        return cosines


def main(model: str, perplexity: str, pictures: str) -> None:
    """Serves orders until standard input ends."""
    limits = _Limits(model, perplexity, Path(pictures))
    for line in sys.stdin:
        taken = limits.run(LimitOrder(**json.loads(line)))
        sys.stdout.write(json.dumps(asdict(taken)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
