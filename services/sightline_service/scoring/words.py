"""How far an image bears out a word: by a cosine, or by a detector. Knows no rewards, no HTTP."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sightline_proto import ModelInfo
from sightline_service.batching import Lane
from sightline_service.concurrency import both
from sightline_service.embedding import Embedder, cosines
from sightline_service.errors import NonFiniteScoreError
from sightline_service.models.protocols import Detector, Prepared, RawDetection
from sightline_service.preparing import Preparer
from sightline_service.sources import EncodedImage

_NO_LABELS = 1.0
"""A text threshold that no word passes: the labels of detections are not read here."""


@dataclass(frozen=True, slots=True)
class WordScore:
    """One word's score on the scale of its verifier, and the cosine where it is one.

    `truncated` says that the word was cut at the model's context length.
    """

    score: float
    cosine: float | None
    truncated: bool


class WordVerifier(Protocol):
    """What FiSAO asks about each object word (S in Eq. 11-12)."""

    @property
    def info(self) -> ModelInfo:
        """The model that gives the scores."""
        ...

    @property
    def scale(self) -> str:
        """The unit of the scores: "cos100" or "conf100"."""
        ...

    async def scores(self, image: EncodedImage, words: Sequence[str]) -> list[WordScore]:
        """Returns one score per word, in order.

        Raises:
            ItemError, ImageRefusedError, TextRefusedError, ..: image or word cannot be scored.
        """
        ...


class CosineVerifier:
    """Scores a word by its embedding's cosine with the image's, times 100."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.info = embedder.model.info
        self.scale = embedder.model.scale

    async def scores(self, image: EncodedImage, words: Sequence[str]) -> list[WordScore]:
        """Returns scores in [-100, 100]."""
        vector, texts = await both(self._embedder.image(image), self._embedder.texts(words))
        return [
            WordScore(100.0 * cosine, cosine, text.truncated)
            for cosine, text in zip(cosines(vector, texts), texts, strict=True)
        ]


class ConfidenceVerifier:
    """Scores a word by the confidence of the best box that a detector finds for it, times 100.

    Each word is asked for alone: in one prompt, words would change each other's scores, and a box
    would go to one of them only. So each distinct word costs a forward pass.
    """

    scale = "conf100"

    def __init__(
        self, detector: Detector, *, lane: Lane[Prepared, list[RawDetection]], preparer: Preparer
    ) -> None:
        self._detector = detector
        self._lane = lane
        self._preparer = preparer
        self.info = detector.info

    async def scores(self, image: EncodedImage, words: Sequence[str]) -> list[WordScore]:
        """Returns scores in [0, 100]: 0 where no box reaches the detector's floor of 5 %."""
        owners: list[str] = []
        cut: set[str] = set()

        def inputs() -> list[Prepared]:
            pixels = image.decode()
            prepared: list[Prepared] = []
            for word in dict.fromkeys(words):
                of_word = self._detector.prepare(pixels, (word,), text_threshold=_NO_LABELS)
                owners.extend([word] * len(of_word))
                prepared.extend(of_word)
                if any(each.truncated for each in of_word):
                    cut.add(word)
            return prepared

        outcomes = await self._lane.prepare_and_submit(
            lambda: self._preparer.start("prepare", inputs)
        )
        best = dict.fromkeys(owners, 0.0)
        for word, outcome in zip(owners, outcomes, strict=True):
            best[word] = max(best[word], self._confidence(outcome))
        return [WordScore(100.0 * best[word], None, word in cut) for word in words]

    def _confidence(self, outcome: list[RawDetection] | Exception) -> float:
        if isinstance(outcome, Exception):
            raise outcome
        scores = [each.score for each in outcome]
        if not all(map(math.isfinite, scores)):
            raise NonFiniteScoreError(self._detector.info.id)
        return max(scores, default=0.0)
