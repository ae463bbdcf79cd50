"""Perplexity of texts and sentences from token log-probabilities. Pure; knows no model."""

import math
import sys
from bisect import bisect_right
from collections.abc import Sequence

from sightline_core.sentences import Sentence

_LARGEST_EXPONENT = math.log(sys.float_info.max)


def perplexity(log_probs: Sequence[float]) -> float:
    """exp(-mean log-probability), log-probabilities in nats; 1 for no tokens: nothing surprises.

    A mean too low for a float gives the largest finite number.

    Raises:
        ValueError: a log-probability is not finite.
    """
    _check_finite(log_probs)
    return mean_perplexity(math.fsum(log_probs), len(log_probs))


def mean_perplexity(log_prob: float, n_tokens: int) -> float:
    """The perplexity of ``n_tokens`` tokens whose log-probabilities add up to ``log_prob`` nats."""
    if n_tokens == 0:
        return 1.0
    return math.exp(min(-log_prob / n_tokens, _LARGEST_EXPONENT))


def sentence_log_probs(
    sentences: Sequence[Sentence],
    token_offsets: Sequence[tuple[int, int]],
    log_probs: Sequence[float],
) -> tuple[tuple[float, int], ...]:
    """Per sentence, the summed log-probability of its tokens, in nats, and their number.

    Every token belongs to exactly one sentence, so the sums add up to the text's. It is the one
    that holds the token's first character that is not whitespace, because many tokenisers begin
    a sentence's first token with the space that ends the sentence before. A token of whitespace
    alone or with an empty range belongs to the sentence at its start, and one past the end (such
    as an end-of-text token) to the last.

    Args:
        sentences: a partition of the text, as of ``split_sentences``.
        token_offsets: half-open character ranges, one per token.
        log_probs: one per token, in nats.

    Raises:
        ValueError: unequal lengths, a number that is not finite, or tokens without a sentence.
    """
    if len(token_offsets) != len(log_probs):
        raise ValueError(
            f"{len(log_probs)} log_probs for {len(token_offsets)} token_offsets: give one per token"
        )
    if log_probs and not sentences:
        raise ValueError(f"{len(log_probs)} log_probs for a text without sentences: give the text")
    _check_finite(log_probs)
    text = "".join(sentence.text for sentence in sentences)
    starts = [sentence.start for sentence in sentences]
    owned: list[list[float]] = [[] for _ in sentences]
    for (start, end), log_prob in zip(token_offsets, log_probs, strict=True):
        position = _first_mark(text, start, end)
        owned[max(0, bisect_right(starts, position) - 1)].append(log_prob)
    return tuple((math.fsum(values), len(values)) for values in owned)


def _first_mark(text: str, start: int, end: int) -> int:
    piece = text[start:end]
    leading = len(piece) - len(piece.lstrip())
    return start if leading == len(piece) else start + leading


def _check_finite(log_probs: Sequence[float]) -> None:
    if not all(map(math.isfinite, log_probs)):
        raise ValueError("log_probs holds a number that is not finite: remove it")
