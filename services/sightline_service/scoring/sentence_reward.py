"""CSR's sentence reward (Eq. 2-3) and ASPO's normalised similarity S'. Knows no HTTP."""

from collections.abc import Mapping, Sequence

from sightline_core.aspo import min_max
from sightline_core.csr import combine, image_reward
from sightline_core.sentences import Sentence, split_sentences
from sightline_proto import (
    SentenceRewardItem,
    SentenceRewardItemReply,
    SentenceRewardReply,
    SentenceRewardRequest,
    SentenceRewardResult,
    SentenceScore,
    Usage,
)
from sightline_service.concurrency import both
from sightline_service.embedding import Embedder, Embedding, cosines
from sightline_service.preparing import Preparer
from sightline_service.scoring.items import Scored, score_each
from sightline_service.sources import ImageSource

Sentences = tuple[Sentence, ...]
Found = Mapping[str, tuple[Embedding, float]]


class SentenceRewardScorer:
    """Answers /sentence_reward."""

    def __init__(self, embedder: Embedder, *, source: ImageSource, preparer: Preparer) -> None:
        self._embedder = embedder
        self._source = source
        self._preparer = preparer

    async def score(self, request: SentenceRewardRequest) -> SentenceRewardReply:
        """Scores each item's texts and their sentences."""

        async def score_item(item: SentenceRewardItem) -> Scored[tuple[SentenceRewardResult, ...]]:
            return await self._score(item, request)

        outcomes, usage = await score_each(request.items, score_item)
        return SentenceRewardReply(
            model=self._embedder.model.info,
            scale=self._embedder.model.scale,
            usage=usage,
            items=tuple(
                SentenceRewardItemReply(index=n, id=item.id, results=each.result, error=each.error)
                for n, (item, each) in enumerate(zip(request.items, outcomes, strict=True))
            ),
        )

    async def _score(
        self, item: SentenceRewardItem, request: SentenceRewardRequest
    ) -> Scored[tuple[SentenceRewardResult, ...]]:
        size = sum(map(len, item.texts))
        split = await self._preparer.run(
            "parse", lambda: [*map(split_sentences, item.texts)], size=size
        )
        sentences = (sentence.text.strip() for each in split for sentence in each)
        texts = [*dict.fromkeys((*item.texts, *sentences))]
        image = await self._source.open(item.image)
        vector, embeddings = await both(self._embedder.image(image), self._embedder.texts(texts))
        found = dict(
            zip(texts, zip(embeddings, cosines(vector, embeddings), strict=True), strict=True)
        )

        def finish() -> tuple[SentenceRewardResult, ...]:
            return _results(item, request, split, found)

        results = await self._preparer.run("finish", finish, size=size)
        truncated = sum(result.truncated for result in results)
        return Scored(results, Usage(images=1, texts=len(item.texts), truncated=truncated))


def _results(
    item: SentenceRewardItem,
    request: SentenceRewardRequest,
    split: Sequence[Sentences],
    found: Found,
) -> tuple[SentenceRewardResult, ...]:
    scores = [image_reward(found[text][1]) for text in item.texts]
    calibrated: Sequence[float | None] = [None] * len(scores)
    if item.language_scores is not None:
        calibrated = combine(
            item.language_scores, scores, weight=request.weight, mode=request.combine
        )
    return tuple(
        _result(found[text], sentences, found, score=score, calibrated=combined)
        for text, sentences, score, combined in zip(
            item.texts, split, scores, calibrated, strict=True
        )
    )


def _result(
    whole: tuple[Embedding, float],
    sentences: Sentences,
    found: Found,
    *,
    score: float,
    calibrated: float | None,
) -> SentenceRewardResult:
    pieces = [found[sentence.text.strip()] for sentence in sentences]
    values = [cosine for _, cosine in pieces]
    return SentenceRewardResult(
        cosine=whole[1],
        score=score,
        calibrated=calibrated,
        sentences=tuple(
            SentenceScore(
                text=sentence.text,
                start=sentence.start,
                end=sentence.end,
                cosine=cosine,
                score=100.0 * cosine,
                normalized=normalized,
            )
            for sentence, cosine, normalized in zip(sentences, values, min_max(values), strict=True)
        ),
        truncated=any(embedding.truncated for embedding, _ in (whole, *pieces)),
    )
