"""Asks the reward service about the segments of chosen answers. Knows the SDK; no torch."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from sightline import Image, UnavailableError
from sightline.errors import Circumstances
from sightline_proto import (
    ErrorDetail,
    PerplexityItem,
    PerplexityRequest,
    PerplexityResult,
    SentenceRewardItem,
    SentenceRewardRequest,
    limits,
)
from sightline_trainers.rewards import RewardRefusedError, RewardSource
from sightline_trainers.segments import Segments

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """One chosen answer to score; `origin` is what errors call it."""

    origin: str
    image: Image
    prompt: str
    text: str
    segments: Segments


@dataclass(frozen=True, slots=True)
class SegmentScores:
    """One number per segment; empty where it was not asked for.

    Attributes:
        cosines: similarity to the image, in [-1, 1].
        perplexities: under the service's language model, at least 1.
    """

    cosines: tuple[float, ...] = ()
    perplexities: tuple[float, ...] = ()


class SegmentSource(RewardSource):
    """A `RewardSource` that scores segments."""

    def ask_segments(
        self, questions: Sequence[Question], *, cosines: bool, perplexities: bool
    ) -> "Future[list[SegmentScores]]":
        """Asks about each answer in the background; with neither metric the service is left alone.

        Cosines come from /sentence_reward, to which each segment is a text of its own;
        perplexities from /perplexity, given the image and the prompt.
        """

        def scores() -> list[SegmentScores]:
            nothing: list[tuple[float, ...]] = [()] * len(questions)
            similar = self._cosines(questions) if cosines else nothing
            surprising = self._perplexities(questions) if perplexities else nothing
            return [SegmentScores(*both) for both in zip(similar, surprising, strict=True)]

        return self._pool.submit(self._patiently, scores)

    def _cosines(self, questions: Sequence[Question]) -> list[tuple[float, ...]]:
        found: list[dict[str, float]] = [{} for _ in questions]
        asked: list[tuple[int, tuple[str, ...]]] = []
        for number, question in enumerate(questions):
            texts = tuple(dict.fromkeys(question.segments.texts))
            parts = range(0, len(texts), limits.TEXTS)
            asked += [(number, texts[start : start + limits.TEXTS]) for start in parts]
        items = tuple(SentenceRewardItem(image=questions[n].image, texts=part) for n, part in asked)
        reply = self._client.send(SentenceRewardRequest(items=items))
        for (number, texts), item in zip(asked, reply.items, strict=True):
            results = _given(questions[number], item.results, item.error)
            found[number] |= {
                text: result.cosine for text, result in zip(texts, results, strict=True)
            }
        return [
            tuple(cosine_of[text] for text in question.segments.texts)
            for question, cosine_of in zip(questions, found, strict=True)
        ]

    def _perplexities(self, questions: Sequence[Question]) -> list[tuple[float, ...]]:
        items = tuple(
            PerplexityItem(image=each.image, prompt=each.prompt, texts=(each.text,))
            for each in questions
        )
        reply = self._client.send(PerplexityRequest(items=items))
        return [
            _per_segment(question, _given(question, item.results, item.error)[0])
            for question, item in zip(questions, reply.items, strict=True)
        ]


def _per_segment(question: Question, result: PerplexityResult) -> tuple[float, ...]:
    pieces = question.segments.pieces
    if len(pieces) == 1:
        return (result.perplexity,)
    served = {(each.start, each.end): each.perplexity for each in result.sentences}
    try:
        return tuple(served[piece.start, piece.end] for piece in pieces)
    except KeyError:
        raise RewardRefusedError(
            f"{question.origin}: the service cuts the answer into other sentences than this side: "
            "install the same version on both"
        ) from None


def _given(
    question: Question, results: Sequence[T] | None, error: ErrorDetail | None
) -> Sequence[T]:
    """The results of one item; its failure is the service's where it may pass."""
    if error is not None:
        message = f"{question.origin}: {error.message} ({error.code})"
        raise UnavailableError(message, Circumstances(code=error.code))
    assert results is not None
    return results
