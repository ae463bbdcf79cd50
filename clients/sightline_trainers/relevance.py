"""Asks the reward service how well sentences fit their image (CSR's R_I). Knows the SDK; no torch.

Each image is one item of a request; the client sends its bytes with the first request that needs
them and its hash from then on.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from sightline import Image, UnavailableError
from sightline.errors import Circumstances
from sightline_proto import (
    ERROR_KINDS,
    ErrorDetail,
    SentenceRewardItem,
    SentenceRewardRequest,
    limits,
)
from sightline_trainers.rewards import RewardRefusedError, RewardSource

_MAY_PASS = frozenset(code.value for code, kind in ERROR_KINDS.items() if kind.retryable)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Sentences about one image; `origin` is what errors call it."""

    origin: str
    image: Image
    texts: tuple[str, ...]


class RelevanceSource(RewardSource):
    """A `RewardSource` that compares sentences with their image."""

    def ask_relevance(self, candidates: Sequence[Candidates]) -> "Future[list[tuple[float, ...]]]":
        """Asks /sentence_reward, in the background, for max(100 * cosine, 0) of each sentence."""
        return self._pool.submit(self._patiently, lambda: self._relevance(candidates))

    def _relevance(self, candidates: Sequence[Candidates]) -> list[tuple[float, ...]]:
        if not candidates:
            return []
        parts = [
            (place, each.texts[start : start + limits.TEXTS])
            for place, each in enumerate(candidates)
            for start in range(0, len(each.texts), limits.TEXTS)
        ]
        items = tuple(
            SentenceRewardItem(image=candidates[place].image, texts=texts) for place, texts in parts
        )
        reply = self._client.send(SentenceRewardRequest(items=items))
        scores: list[tuple[float, ...]] = [() for _ in candidates]
        for (place, texts), item in zip(parts, reply.items, strict=True):
            if item.error is not None:
                raise _failure(candidates[place].origin, item.error)
            assert item.results is not None
            assert len(item.results) == len(texts)
            scores[place] += tuple(result.score for result in item.results)
        return scores


def _failure(origin: str, error: ErrorDetail) -> Exception:
    """One item's failure: as the service's absence where it may pass, else for good."""
    message = f"{origin}: {error.message} ({error.code})"
    if error.code in _MAY_PASS:
        return UnavailableError(message, Circumstances(code=error.code))
    return RewardRefusedError(message)
