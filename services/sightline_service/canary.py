"""A question to each model whose answer is known: the first one. Knows models; knows no HTTP.

A device that has failed may look alive: its thread runs, and every forward pass raises. Asking the
models what any caller might ask finds that out, and on the way warms them up before the first one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from sightline_service.batching import DynamicBatcher, Lane
from sightline_service.models.protocols import (
    Detector,
    PerplexityModel,
    Prepared,
    SimilarityModel,
    TextRefusedError,
)
from sightline_service.preparing import Preparer
from sightline_service.served import Models, Role
from sightline_service.waiting import BatchLimits

Numbers = NDArray[np.float64]

_ALONE = BatchLimits(max_items=1, max_cost=1, max_wait_s=0.0)
_TEXT = "A dog and a cat."
_TOLERANCE = 0.02
"""How far a coordinate of a unit vector, a score or a probability may move between two answers."""


class CanaryError(RuntimeError):
    """A model fails at a question that it answered before, or answers it otherwise."""


@dataclass(frozen=True, slots=True)
class _Question:
    prepare: Callable[[], Sequence[Prepared]]
    lane: Lane[Prepared, Numbers]


class Canary:
    """Asks each model the same small questions again and again, through its own owner thread.

    Args:
        models: what is served.
        batchers: the owner threads.
        preparer: threads for the preparation.
    """

    def __init__(
        self, models: Models, batchers: Mapping[Role, DynamicBatcher], preparer: Preparer
    ) -> None:
        self._preparer = preparer
        self._questions: dict[Role, list[_Question]] = {}
        self._first: dict[Role, list[Numbers]] = {}
        if models.similarity is not None:
            self._questions["similarity"] = _of_similarity(
                models.similarity, batchers["similarity"]
            )
        if models.detector is not None:
            self._questions["detector"] = [_of_detector(models.detector, batchers["detector"])]
        if models.perplexity is not None:
            self._questions["perplexity"] = [
                _of_perplexity(models.perplexity, batchers["perplexity"])
            ]

    @property
    def roles(self) -> tuple[Role, ...]:
        """Whom it asks."""
        return tuple(self._questions)

    async def sing(self, role: Role) -> None:
        """Asks the model of `role`.

        Raises:
            CanaryError: it failed, or its numbers are not finite or not those of the first time.
        """
        try:
            answers = [await self._answer(question) for question in self._questions[role]]
        except TextRefusedError:
            return  # the model is made for other texts, and says so in good health
        except Exception as error:
            raise CanaryError(f"the {role} model fails at a test question: {error}") from error
        _compare(role, answers, self._first.setdefault(role, answers))

    async def _answer(self, question: _Question) -> Numbers:
        outcomes = await question.lane.prepare_and_submit(
            lambda: self._preparer.start("prepare", question.prepare)
        )
        numbers: list[Numbers] = []
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            numbers.append(outcome)
        return np.concatenate(numbers)


def _compare(role: Role, answers: Sequence[Numbers], first: Sequence[Numbers]) -> None:
    for answer, before in zip(answers, first, strict=True):
        if not np.isfinite(answer).all():
            raise CanaryError(f"the {role} model answers a test question with NaN or infinity")
        if answer.shape != before.shape or np.abs(answer - before).max(initial=0) > _TOLERANCE:
            raise CanaryError(f"the {role} model answers a test question otherwise than before")


def _image() -> PIL.Image.Image:
    """Returns 64 x 64 pixels: red grows to the right, green downwards."""
    ramp = np.arange(0, 256, 4, dtype=np.uint8)
    red, green = np.meshgrid(ramp, ramp)
    return PIL.Image.fromarray(np.stack([red, green, np.full_like(red, 128)], axis=-1))


def _of_similarity(model: SimilarityModel, batcher: DynamicBatcher) -> list[_Question]:
    def images(batch: Sequence[Prepared]) -> list[Numbers]:
        return list(model.embed_images(batch).astype(np.float64))

    def texts(batch: Sequence[Prepared]) -> list[Numbers]:
        return list(model.embed_texts(batch).astype(np.float64))

    return [
        _Question(lambda: [model.prepare_image(_image())], batcher.lane("canary", images, _ALONE)),
        _Question(lambda: [model.prepare_text(_TEXT)], batcher.lane("canary", texts, _ALONE)),
    ]


def _of_detector(model: Detector, batcher: DynamicBatcher) -> _Question:
    def best(batch: Sequence[Prepared]) -> list[Numbers]:
        return [
            np.array([max((each.score for each in found), default=0.0)])
            for found in model.detect(batch)
        ]

    def prepare() -> Sequence[Prepared]:
        return model.prepare(_image(), ("dog",), text_threshold=0.25)

    return _Question(prepare, batcher.lane("canary", best, _ALONE))


def _of_perplexity(model: PerplexityModel, batcher: DynamicBatcher) -> _Question:
    def probabilities(batch: Sequence[Prepared]) -> list[Numbers]:
        return [np.exp(scores.log_probs) for scores in model.score(batch)]

    def prepare() -> Sequence[Prepared]:
        return [model.prepare(_image() if model.takes_image else None, None, _TEXT)]

    return _Question(prepare, batcher.lane("canary", probabilities, _ALONE))
