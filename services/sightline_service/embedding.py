"""Embeddings of images and texts: cached, computed once, in batches. Knows no HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sightline_service.batching import Lane
from sightline_service.caches import ByteLru, SingleFlight
from sightline_service.concurrency import together
from sightline_service.errors import NonFiniteScoreError
from sightline_service.models.protocols import Prepared, SimilarityModel
from sightline_service.preparing import Preparer
from sightline_service.sources import EncodedImage

Vector = NDArray[np.float32]

_CHUNK = 64
"""Texts that one piece of CPU work tokenises or compares."""
_TOKENIZES_SLOWER = 64
"""A character takes that much longer to tokenise than a byte to parse; a long word, longer yet."""

_SOON_BYTES = 64 * 1024
"""A larger file takes longer to decode, on busy cores, than small ones should wait for it."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """A unit vector of d numbers, and whether its text was cut at the model's context length."""

    vector: Vector
    truncated: bool


def cosines(image: Vector, texts: Sequence[Embedding]) -> list[float]:
    """Returns the cosine of each text with the image, in [-1, 1].

    Each is summed in float64 along its own row, so that it does not depend on how many there are.
    """
    wide = image.astype(np.float64)
    found: list[float] = []
    for start in range(0, len(texts), _CHUNK):
        rows = np.array([text.vector for text in texts[start : start + _CHUNK]], dtype=np.float64)
        found += (rows * wide).sum(axis=1).clip(-1.0, 1.0).tolist()
    return found


class Embedder:
    """Embeds with one similarity model.

    Keys are the hash of an image's bytes and the text itself; model and preprocessing are those of
    this object, which outlives neither.

    Args:
        model: used through the two lanes, and on the preparing threads.
        images: the lane of `model.embed_images`.
        texts: the lane of `model.embed_texts`.
        preparer: threads for decoding, resizing and tokenising.
        cache_bytes: memory for embeddings.
    """

    def __init__(
        self,
        model: SimilarityModel,
        *,
        images: Lane[Prepared, Vector],
        texts: Lane[Prepared, Vector],
        preparer: Preparer,
        cache_bytes: int,
    ) -> None:
        self.model = model
        self._image_lane = images
        self._text_lane = texts
        self._preparer = preparer
        self.cache: ByteLru[tuple[str, str], Embedding] = ByteLru(cache_bytes, _bytes_of)
        self._image_flights: SingleFlight[str, Embedding] = SingleFlight()
        self._text_flights: SingleFlight[str, Embedding] = SingleFlight()

    async def image(self, image: EncodedImage) -> Vector:
        """Returns the image's unit vector.

        Raises:
            ItemError, ImageRefusedError, ..: the image cannot be embedded.
        """
        cached = self.cache.get(("image", image.sha256))
        if cached is None:
            work = partial(self._embed_image, image)
            [outcome] = await self._image_flights.run([image.sha256], work)
            cached = _value(outcome)
        return cached.vector

    async def texts(self, texts: Sequence[str]) -> list[Embedding]:
        """Returns one embedding per text, in order.

        Raises:
            ItemError, TextRefusedError, ..: of the first text that cannot be embedded.
        """
        found = {text: self.cache.get(("text", text)) for text in dict.fromkeys(texts)}
        missing = [text for text, embedding in found.items() if embedding is None]
        chunks = [missing[start : start + _CHUNK] for start in range(0, len(missing), _CHUNK)]
        outcomes = await together(
            self._text_flights.run(chunk, self._embed_texts) for chunk in chunks
        )
        for chunk, computed in zip(chunks, outcomes, strict=True):
            found |= {t: _value(outcome) for t, outcome in zip(chunk, computed, strict=True)}
        return [embedding for text in texts if (embedding := found[text]) is not None]

    async def _embed_image(
        self, image: EncodedImage, keys: Sequence[str]
    ) -> list[Embedding | Exception]:
        def prepare() -> list[Prepared]:
            return [self.model.prepare_image(image.decode())]

        outcomes = await self._image_lane.prepare_and_submit(
            lambda: self._preparer.start("prepare", prepare),
            soon=image.data is not None and len(image.data) <= _SOON_BYTES,
        )
        return self._keep("image", keys, outcomes, truncated=[False])

    async def _embed_texts(self, texts: Sequence[str]) -> list[Embedding | Exception]:
        refused: dict[str, Exception] = {}
        prepared: dict[str, Prepared] = {}

        def prepare() -> list[Prepared]:
            for text in texts:
                try:
                    prepared[text] = self.model.prepare_text(text)
                except Exception as error:  # noqa: BLE001 - one text's failure is that text's alone
                    refused[text] = error
            return list(prepared.values())

        size = _TOKENIZES_SLOWER * sum(map(len, texts))
        outcomes = await self._text_lane.prepare_and_submit(
            lambda: self._preparer.start("prepare", prepare, size=size)
        )
        truncated = [each.truncated for each in prepared.values()]
        kept = self._keep("text", [*prepared], outcomes, truncated=truncated)
        if not refused:
            return kept
        embedded = dict(zip(prepared, kept, strict=True))
        return [refused[text] if text in refused else embedded[text] for text in texts]

    def _keep(
        self,
        kind: str,
        keys: Sequence[str],
        outcomes: Sequence[Vector | Exception],
        *,
        truncated: Sequence[bool],
    ) -> list[Embedding | Exception]:
        vectors = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
        all_finite = bool(vectors) and bool(np.isfinite(np.concatenate(vectors)).all())
        kept: list[Embedding | Exception] = []
        for key, outcome, cut in zip(keys, outcomes, truncated, strict=True):
            if isinstance(outcome, Exception):
                kept.append(outcome)
            elif all_finite or np.isfinite(outcome).all():
                embedding = Embedding(np.array(outcome), cut)  # a row would keep its whole batch
                self.cache.put((kind, key), embedding)
                kept.append(embedding)
            else:
                kept.append(NonFiniteScoreError(self.model.info.id))
        return kept


def _bytes_of(key: tuple[str, str], embedding: Embedding) -> int:
    overhead = 512  # the objects and table slots around the numbers
    return overhead + 4 * len(key[1]) + embedding.vector.nbytes


def _value(outcome: Embedding | Exception) -> Embedding:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
