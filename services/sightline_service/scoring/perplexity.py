"""Perplexity of texts and sentences under a model that may see the image. Knows no HTTP."""

from collections.abc import Sequence

import numpy as np

from sightline_core.aspo import normalized_perplexities
from sightline_core.perplexity import mean_perplexity, perplexity, sentence_log_probs
from sightline_core.sentences import split_sentences
from sightline_proto import (
    PerplexityItem,
    PerplexityItemReply,
    PerplexityReply,
    PerplexityRequest,
    PerplexityResult,
    SentencePerplexity,
    TokenLogProb,
    Usage,
)
from sightline_service.batching import Lane
from sightline_service.errors import ImageNotTakenError, ImageRequiredError, NonFiniteScoreError
from sightline_service.models.protocols import PerplexityModel, Prepared, TokenScores
from sightline_service.preparing import Preparer
from sightline_service.scoring.items import Scored, score_each
from sightline_service.sources import EncodedImage, ImageSource

SCALE = "nats"


class PerplexityScorer:
    """Answers /perplexity."""

    def __init__(
        self,
        model: PerplexityModel,
        *,
        lane: Lane[Prepared, TokenScores],
        source: ImageSource,
        preparer: Preparer,
    ) -> None:
        self._model = model
        self._lane = lane
        self._source = source
        self._preparer = preparer

    async def score(self, request: PerplexityRequest) -> PerplexityReply:
        """Scores each item's texts by teacher forcing."""

        async def score_item(item: PerplexityItem) -> Scored[tuple[PerplexityResult, ...]]:
            return await self._score(item, return_tokens=request.return_tokens)

        outcomes, usage = await score_each(request.items, score_item)
        return PerplexityReply(
            model=self._model.info,
            scale=SCALE,
            usage=usage,
            items=tuple(
                PerplexityItemReply(index=n, id=item.id, results=each.result, error=each.error)
                for n, (item, each) in enumerate(zip(request.items, outcomes, strict=True))
            ),
        )

    async def _score(
        self, item: PerplexityItem, *, return_tokens: bool
    ) -> Scored[tuple[PerplexityResult, ...]]:
        self._check_image(item)
        image = await self._source.open(item.image) if item.image is not None else None
        scores = await self._score_texts(image, item.prompt, item.texts)

        def finish() -> tuple[PerplexityResult, ...]:
            return tuple(
                _result(text, of_text, return_tokens=return_tokens)
                for text, of_text in zip(item.texts, scores, strict=True)
            )

        size = sum(map(len, item.texts))
        results = await self._preparer.run("finish", finish, size=size)
        usage = Usage(images=int(image is not None), texts=len(item.texts), truncated=0)
        return Scored(results, usage)

    def _check_image(self, item: PerplexityItem) -> None:
        if item.image is None and self._model.needs_image:
            raise ImageRequiredError(self._model.info.id)
        if item.image is not None and not self._model.takes_image:
            raise ImageNotTakenError(self._model.info.id)

    async def _score_texts(
        self, image: EncodedImage | None, prompt: str | None, texts: Sequence[str]
    ) -> list[TokenScores]:
        def prepare() -> list[Prepared]:
            pixels = image.decode() if image is not None else None
            return self._model.prepare_each(pixels, prompt, texts)

        outcomes = await self._lane.prepare_and_submit(
            lambda: self._preparer.start("prepare", prepare)
        )
        return [self._checked(outcome) for outcome in outcomes]

    def _checked(self, outcome: TokenScores | Exception) -> TokenScores:
        if isinstance(outcome, Exception):
            raise outcome
        if not np.isfinite(outcome.log_probs).all():
            raise NonFiniteScoreError(self._model.info.id)
        return outcome


def _result(text: str, scores: TokenScores, *, return_tokens: bool) -> PerplexityResult:
    log_probs: list[float] = scores.log_probs.tolist()
    return PerplexityResult(
        log_prob=sum(log_probs),
        n_tokens=len(log_probs),
        perplexity=perplexity(log_probs),
        sentences=_sentences(text, scores.offsets, log_probs),
        tokens=_tokens(text, scores.offsets, log_probs) if return_tokens else None,
    )


def _sentences(
    text: str, offsets: Sequence[tuple[int, int]], log_probs: Sequence[float]
) -> tuple[SentencePerplexity, ...]:
    sentences = split_sentences(text)
    sums = sentence_log_probs(sentences, offsets, log_probs)
    perplexities = [mean_perplexity(log_prob, n_tokens) for log_prob, n_tokens in sums]
    normalized = normalized_perplexities(perplexities)
    return tuple(
        SentencePerplexity(
            text=sentence.text,
            start=sentence.start,
            end=sentence.end,
            log_prob=log_prob,
            n_tokens=n_tokens,
            perplexity=value,
            normalized=share,
        )
        for sentence, (log_prob, n_tokens), value, share in zip(
            sentences, sums, perplexities, normalized, strict=True
        )
    )


def _tokens(
    text: str, offsets: Sequence[tuple[int, int]], log_probs: Sequence[float]
) -> tuple[TokenLogProb, ...]:
    return tuple(
        TokenLogProb(text=text[start:end], start=start, end=end, log_prob=log_prob)
        for (start, end), log_prob in zip(offsets, log_probs, strict=True)
    )
