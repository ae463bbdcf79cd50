"""Scores made up from the image's bytes and the text, for tests. Knows no HTTP, no model."""

import hashlib
import re
from collections.abc import Callable, Sequence

from sightline_core.alignment import align_rewards
from sightline_core.aspo import min_max, normalized_perplexities
from sightline_core.csr import combine, image_reward
from sightline_core.entities import Vocabulary, find_spans, verifier_text
from sightline_core.fisao import Profile, span_reward
from sightline_core.grounding import format_context, phrases_in
from sightline_core.perplexity import mean_perplexity, sentence_log_probs
from sightline_core.sentences import split_sentences
from sightline_proto import (
    Detection,
    GroundItem,
    GroundRequest,
    GroundResult,
    PerplexityItem,
    PerplexityResult,
    SentencePerplexity,
    SentenceRewardItem,
    SentenceRewardRequest,
    SentenceRewardResult,
    SentenceScore,
    SpanReward,
    TokenLogProb,
    TokenRewardItem,
    TokenRewardResult,
)

Cosine = Callable[[bytes, str], float]

FAKE_PROFILE = Profile(
    name="fake",
    model_id="fake",
    model_revision="0",
    preprocess="none",
    scale="cos100",
    mu_gt=22.0,
    mu_hal=18.0,
    margin=1.0,
    s_min=5.0,
    s_max=35.0,
    norm="corrected",
    n_gt=1,
    n_hal=1,
    created="2025-01-01T00:00:00+00:00",
    sightline_version="0",
)


def hashed_cosine(image: bytes, text: str) -> float:
    """A cosine in [0.05, 0.35) that is the same on every machine."""
    digest = hashlib.sha256(image + b"\0" + text.encode("utf-8", "replace")).digest()
    return 0.05 + 0.3 * int.from_bytes(digest[:4], "big") / 2**32


def token_reward(
    item: TokenRewardItem, image: bytes, cosine: Cosine, vocabulary: Vocabulary
) -> tuple[TokenRewardResult, ...]:
    """One result per text, by FAKE_PROFILE."""
    results: list[TokenRewardResult] = []
    for number, text in enumerate(item.texts):
        spans = tuple(
            _span(found.text, found.entity, found.start, cosine(image, verifier_text(found)))
            for found in find_spans(text, vocabulary)
        )
        rewards = None
        if item.token_offsets is not None:
            ranges = [(span.start, span.end) for span in spans]
            values = [span.reward or 0.0 for span in spans]
            rewards = align_rewards(ranges, values, item.token_offsets[number])
        results.append(TokenRewardResult(spans=spans, token_rewards=rewards, truncated=False))
    return tuple(results)


def _span(text: str, entity: str, start: int, cosine: float) -> SpanReward:
    reward, verdict = span_reward(100.0 * cosine, FAKE_PROFILE)
    return SpanReward(
        text=text,
        entity=entity,
        start=start,
        end=start + len(text),
        cosine=cosine,
        score=100.0 * cosine,
        reward=reward,
        verdict=verdict,
    )


def sentence_reward(
    item: SentenceRewardItem, image: bytes, cosine: Cosine, request: SentenceRewardRequest
) -> tuple[SentenceRewardResult, ...]:
    """One result per text; `calibrated` as CSR combines it."""
    cosines = [cosine(image, text) for text in item.texts]
    scores = [image_reward(value) for value in cosines]
    calibrated: Sequence[float | None] = [None] * len(scores)
    if item.language_scores is not None:
        calibrated = combine(
            item.language_scores, scores, weight=request.weight, mode=request.combine
        )
    return tuple(
        SentenceRewardResult(
            cosine=value,
            score=score,
            calibrated=combined,
            sentences=_sentences(text, image, cosine),
            truncated=False,
        )
        for text, value, score, combined in zip(
            item.texts, cosines, scores, calibrated, strict=True
        )
    )


def _sentences(text: str, image: bytes, cosine: Cosine) -> tuple[SentenceScore, ...]:
    sentences = split_sentences(text)
    cosines = [cosine(image, sentence.text) for sentence in sentences]
    return tuple(
        SentenceScore(
            text=sentence.text,
            start=sentence.start,
            end=sentence.end,
            cosine=value,
            score=100.0 * value,
            normalized=normalized,
        )
        for sentence, value, normalized in zip(sentences, cosines, min_max(cosines), strict=True)
    )


def ground(
    item: GroundItem, image: bytes, cosine: Cosine, request: GroundRequest, vocabulary: Vocabulary
) -> GroundResult:
    """One box per phrase whose score, 2.5 * cosine, reaches the threshold, in 100 x 100 pixels."""
    phrases = item.phrases or phrases_in(item.text or "", vocabulary)
    found = sorted(((2.5 * cosine(image, phrase), phrase) for phrase in phrases), reverse=True)
    detections = tuple(
        _detection(phrase, score)
        for score, phrase in found[: request.max_boxes]
        if score >= request.box_threshold
    )
    return GroundResult(
        detections=detections,
        context=format_context([(each.phrase, each.box) for each in detections]),
    )


def _detection(phrase: str, score: float) -> Detection:
    corner = score / 2
    return Detection(
        phrase=phrase,
        label=phrase,
        score=score,
        box=(corner, corner, corner + 0.5, corner + 0.5),
        box_pixels=(100 * corner, 100 * corner, 100 * corner + 50, 100 * corner + 50),
    )


def perplexity(
    item: PerplexityItem, image: bytes, cosine: Cosine, return_tokens: bool
) -> tuple[PerplexityResult, ...]:
    """One result per text; a token is a word with its spaces, its log-probability -10 * cosine."""
    return tuple(_perplexity(text, image, cosine, return_tokens) for text in item.texts)


def _perplexity(text: str, image: bytes, cosine: Cosine, return_tokens: bool) -> PerplexityResult:
    words = [(found.start(), found.end()) for found in re.finditer(r"\s*\S+\s*|\s+", text)]
    log_probs = [-10.0 * cosine(image, text[start:end]) for start, end in words]
    sentences = split_sentences(text)
    sums = sentence_log_probs(sentences, words, log_probs)
    perplexities = [mean_perplexity(log_prob, n_tokens) for log_prob, n_tokens in sums]
    tokens = tuple(
        TokenLogProb(text=text[start:end], start=start, end=end, log_prob=log_prob)
        for (start, end), log_prob in zip(words, log_probs, strict=True)
    )
    return PerplexityResult(
        log_prob=sum(log_probs),
        n_tokens=len(words),
        perplexity=mean_perplexity(sum(log_probs), len(words)),
        sentences=tuple(
            SentencePerplexity(
                text=sentence.text,
                start=sentence.start,
                end=sentence.end,
                log_prob=log_prob,
                n_tokens=n_tokens,
                perplexity=perplexity,
                normalized=normalized,
            )
            for sentence, (log_prob, n_tokens), perplexity, normalized in zip(
                sentences, sums, perplexities, normalized_perplexities(perplexities), strict=True
            )
        ),
        tokens=tokens if return_tokens else None,
    )
