"""FiSAO's token rewards (Eq. 11-12): which object words does the image bear out? Knows no HTTP.

By default a request costs one image forward; the embeddings of its object words are mostly cached.
"""

from collections.abc import Mapping, Sequence

from sightline_core.alignment import align_rewards
from sightline_core.entities import Span, Vocabulary, find_spans, verifier_text
from sightline_core.fisao import Profile, span_reward, to_scale
from sightline_proto import (
    SpanReward,
    TokenRewardItem,
    TokenRewardItemReply,
    TokenRewardReply,
    TokenRewardRequest,
    TokenRewardResult,
    Usage,
)
from sightline_service.errors import NoDefaultProfileError, ProfileNotFoundError
from sightline_service.preparing import Preparer
from sightline_service.scoring.items import Scored, score_each
from sightline_service.scoring.words import WordScore, WordVerifier
from sightline_service.served import DEFAULT_PROFILE
from sightline_service.sources import ImageSource

Spans = tuple[Span, ...]


class TokenRewardScorer:
    """Answers /token_reward."""

    def __init__(
        self,
        verifier: WordVerifier,
        *,
        source: ImageSource,
        preparer: Preparer,
        vocabulary: Vocabulary,
        profiles: Mapping[str, Profile],
    ) -> None:
        self._verifier = verifier
        self._source = source
        self._preparer = preparer
        self._vocabulary = vocabulary
        self._profiles = profiles

    async def score(self, request: TokenRewardRequest) -> TokenRewardReply:
        """Scores each item's object words.

        Raises:
            ProfileNotFoundError: the profile is unknown, or rewards are asked for without any.
        """
        profile = self._profile(request)

        async def score_item(item: TokenRewardItem) -> Scored[tuple[TokenRewardResult, ...]]:
            return await self._score(item, profile)

        outcomes, usage = await score_each(request.items, score_item)
        return TokenRewardReply(
            model=self._verifier.info,
            scale=self._verifier.scale,
            profile=profile.name if profile else None,
            usage=usage,
            items=tuple(
                TokenRewardItemReply(index=n, id=item.id, results=each.result, error=each.error)
                for n, (item, each) in enumerate(zip(request.items, outcomes, strict=True))
            ),
        )

    def _profile(self, request: TokenRewardRequest) -> Profile | None:
        profile = self._profiles.get(request.profile or DEFAULT_PROFILE)
        wanted = any(item.token_offsets is not None for item in request.items)
        known = tuple(sorted(self._profiles))
        if profile is None and request.profile is not None:
            raise ProfileNotFoundError(request.profile, known)
        if profile is None and wanted:
            raise NoDefaultProfileError(DEFAULT_PROFILE, known)
        return profile

    async def _score(
        self, item: TokenRewardItem, profile: Profile | None
    ) -> Scored[tuple[TokenRewardResult, ...]]:
        size = sum(map(len, item.texts))
        spans = await self._preparer.run("parse", lambda: self._spans(item.texts), size=size)
        words = [verifier_text(span) for of_text in spans for span in of_text]
        image = await self._source.open(item.image)
        found = dict(zip(words, await self._verifier.scores(image, words), strict=True))
        offsets = item.token_offsets or (None,) * len(item.texts)

        def finish() -> tuple[TokenRewardResult, ...]:
            return tuple(
                _result(of_text, found, offset, profile)
                for of_text, offset in zip(spans, offsets, strict=True)
            )

        results = await self._preparer.run("finish", finish, size=size)
        truncated = sum(result.truncated for result in results)
        return Scored(results, Usage(images=1, texts=len(item.texts), truncated=truncated))

    def _spans(self, texts: Sequence[str]) -> list[Spans]:
        return [find_spans(text, self._vocabulary) for text in texts]


def _result(
    spans: Spans,
    found: Mapping[str, WordScore],
    token_offsets: Sequence[tuple[int, int]] | None,
    profile: Profile | None,
) -> TokenRewardResult:
    scored = tuple(_span_reward(span, found[verifier_text(span)], profile) for span in spans)
    return TokenRewardResult(
        spans=scored,
        token_rewards=None if token_offsets is None else _aligned(scored, token_offsets),
        truncated=any(found[verifier_text(span)].truncated for span in spans),
    )


def _span_reward(span: Span, word: WordScore, profile: Profile | None) -> SpanReward:
    reward, verdict = span_reward(_on_scale(word, profile), profile) if profile else (None, None)
    return SpanReward(
        text=span.text,
        entity=span.entity,
        start=span.start,
        end=span.end,
        cosine=word.cosine,
        score=word.score,
        reward=reward,
        verdict=verdict,
    )


def _on_scale(word: WordScore, profile: Profile) -> float:
    return word.score if word.cosine is None else to_scale(word.cosine, profile.scale)


def _aligned(
    spans: Sequence[SpanReward], token_offsets: Sequence[tuple[int, int]]
) -> tuple[float, ...]:
    ranges = [(span.start, span.end) for span in spans]
    return align_rewards(ranges, [span.reward or 0.0 for span in spans], token_offsets)
