"""Deterministic stand-ins for the three kinds of model, made of hashes. Knows no torch."""

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from sightline_proto import ModelInfo
from sightline_service.models.protocols import (
    OutOfDeviceMemoryError,
    Prepared,
    RawDetection,
    TokenScores,
)

_INFO = ModelInfo(id="fake", revision="fake", preprocess="fake", dtype="float32")
_DIMENSIONS = 16
_TOKEN = re.compile(r"\s*\S+|\s+$")


class FakeModelError(RuntimeError):
    """The failure that a fake was asked to show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What goes wrong in a fake's forward pass.

    Attributes:
        delay_s: seconds that each batch takes.
        fail_on: a batch with a text that contains this raises `FakeModelError`; "" never fails.
        memory_items: a batch of more inputs raises `OutOfDeviceMemoryError`; None is unbounded.
    """

    delay_s: float = 0.0
    fail_on: str = ""
    memory_items: int | None = None

    def strike(self, texts: Sequence[str]) -> None:
        """Waits, then raises what this batch of texts, one for each input, deserves."""
        time.sleep(self.delay_s)
        if self.memory_items is not None and len(texts) > self.memory_items:
            raise OutOfDeviceMemoryError(f"{len(texts)} inputs, room for {self.memory_items}")
        if self.fail_on and any(self.fail_on in text for text in texts):
            raise FakeModelError(f"a text of this batch contains {self.fail_on!r}")


NO_TROUBLE = Trouble()


def _uniform(*parts: str, size: int) -> NDArray[np.float64]:
    """Returns `size` numbers in [0, 1) that depend on the parts alone."""
    digest = hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big")).random(size)


def _image_key(image: PIL.Image.Image) -> str:
    digest = hashlib.sha256(f"{image.mode} {image.size}".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


class FakeSimilarity:
    """Embeds by hash, so that equal inputs have equal embeddings and nothing else is related.

    Args:
        trouble: what goes wrong; `fail_on` concerns texts.
        context_words: longer texts are cut and reported as truncated.
        info: the identity to report.
    """

    scale = "cos100"

    def __init__(
        self, trouble: Trouble = NO_TROUBLE, *, context_words: int = 77, info: ModelInfo = _INFO
    ) -> None:
        self.info = info
        self.n_weights = 0
        self.batch_sizes: list[int] = []
        self._trouble = trouble
        self._context_words = context_words

    def prepare_image(self, image: PIL.Image.Image) -> Prepared:
        """Keeps a hash of the pixels."""
        return Prepared(data=_image_key(image), cost=image.width * image.height)

    def prepare_text(self, text: str) -> Prepared:
        """Keeps the first `context_words` words."""
        words = text.split()
        kept = words[: self._context_words]
        truncated = len(words) > len(kept)
        return Prepared(
            data=" ".join(kept) if truncated else text,
            cost=max(len(kept), 1),
            truncated=truncated,
        )

    def embed_images(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """Returns unit vectors, shape [n, 16]."""
        return self._embed("image", [prepared.data for prepared in batch], [""] * len(batch))

    def embed_texts(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """Returns unit vectors, shape [n, 16]."""
        texts = [prepared.data for prepared in batch]
        return self._embed("text", texts, texts)

    def _embed(self, kind: str, keys: list[str], texts: list[str]) -> NDArray[np.float32]:
        self.batch_sizes.append(len(keys))
        self._trouble.strike(texts)
        rows = np.stack([_uniform(kind, key, size=_DIMENSIONS) - 0.5 for key in keys])
        unit: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit.astype(np.float32)


class FakeDetector:
    """Finds each phrase exactly once, at a box and with a score that its hash decides.

    Args:
        trouble: what goes wrong; `fail_on` concerns phrases.
        phrases_per_prompt: more phrases become several inputs.
        info: the identity to report.
    """

    def __init__(
        self,
        trouble: Trouble = NO_TROUBLE,
        *,
        phrases_per_prompt: int = 16,
        info: ModelInfo = _INFO,
    ) -> None:
        self.info = info
        self.n_weights = 0
        self.batch_sizes: list[int] = []
        self._trouble = trouble
        self._phrases_per_prompt = phrases_per_prompt

    def prepare(
        self, image: PIL.Image.Image, phrases: tuple[str, ...], *, text_threshold: float
    ) -> Sequence[Prepared]:
        """Chunks the phrases; images of one size share a group."""
        key = _image_key(image)
        numbered = list(enumerate(phrases))
        step = self._phrases_per_prompt
        return [
            Prepared(
                data=(key, tuple(numbered[start : start + step])),
                cost=image.width * image.height,
                group=image.size,
            )
            for start in range(0, len(numbered), step)
        ]

    def detect(self, batch: Sequence[Prepared]) -> list[list[RawDetection]]:
        """Returns one detection for each phrase, best first."""
        assert len({prepared.group for prepared in batch}) <= 1
        self.batch_sizes.append(len(batch))
        prompts = [" ".join(phrase for _, phrase in prepared.data[1]) for prepared in batch]
        self._trouble.strike(prompts)
        return [self._detections(*prepared.data) for prepared in batch]

    def _detections(self, key: str, phrases: Sequence[tuple[int, str]]) -> list[RawDetection]:
        found: list[RawDetection] = []
        for index, phrase in phrases:
            score, x, y, width, height = _uniform(key, phrase, size=5)
            box = (x / 2, y / 2, (x + width) / 2 + 0.01, (y + height) / 2 + 0.01)
            x1, y1, x2, y2 = (min(float(side), 1.0) for side in box)
            found.append(RawDetection(index, phrase, 0.05 + 0.95 * float(score), (x1, y1, x2, y2)))
        return sorted(found, key=lambda detection: -detection.score)


class FakePerplexity:
    """Takes words with the space before them for tokens; a log-probability depends on its prefix.

    Args:
        trouble: what goes wrong; `fail_on` concerns texts.
        takes_image: whether an image may be given.
        needs_image: whether it must.
        info: the identity to report.
    """

    def __init__(
        self,
        trouble: Trouble = NO_TROUBLE,
        *,
        takes_image: bool = True,
        needs_image: bool = False,
        info: ModelInfo = _INFO,
    ) -> None:
        self.info = info
        self.n_weights = 0
        self.takes_image = takes_image
        self.needs_image = needs_image
        self.batch_sizes: list[int] = []
        self._trouble = trouble

    def prepare(self, image: PIL.Image.Image | None, prompt: str | None, text: str) -> Prepared:
        """Keeps the text and a hash of what comes before it."""
        before = (_image_key(image) if image is not None else "") + "\x1e" + (prompt or "")
        return Prepared(data=(before, text), cost=max(len(_TOKEN.findall(text)), 1))

    def prepare_each(
        self, image: PIL.Image.Image | None, prompt: str | None, texts: Sequence[str]
    ) -> list[Prepared]:
        """Prepares texts one by one."""
        return [self.prepare(image, prompt, text) for text in texts]

    def score(self, batch: Sequence[Prepared]) -> list[TokenScores]:
        """Returns log-probabilities in (-5, 0]."""
        self.batch_sizes.append(len(batch))
        self._trouble.strike([prepared.data[1] for prepared in batch])
        return [self._scores(*prepared.data) for prepared in batch]

    def _scores(self, before: str, text: str) -> TokenScores:
        offsets = tuple(match.span() for match in _TOKEN.finditer(text))
        log_probs = [-5 * _uniform(before, text[:end], size=1)[0] for _, end in offsets]
        return TokenScores(offsets, np.array(log_probs, dtype=np.float64))
