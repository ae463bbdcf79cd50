"""CIDEr-D: how much a caption says what its references agree on. Knows words; reads no text.

Vedantam, Zitnick and Parikh, "CIDEr: Consensus-based Image Description Evaluation", CVPR 2015,
section 5, with the constants of COCO's caption scores: runs of 1 to 4 words, sigma 6, times 10.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sightline_eval.ngrams import ORDERS, Words, count_ngrams

_SIGMA = 6.0
_SCALE = 10.0


def cider(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> tuple[float, ...]:
    """One score per caption, in [0, 10]; the set's score is their mean, printed times 100.

    A run of words weighs the less, the more images have it in their references. So the scores of
    two sets of images do not compare, and in a set of one image all are 0.

    Args:
        candidates: the words of one caption per image.
        references: the words of each image's references, at least one, in the same order.
    """
    document_frequency = Counter(
        ngram
        for group in references
        for ngram in {ngram for reference in group for ngram in count_ngrams(reference)}
    )
    log_images = math.log(max(len(references), 1))
    rarity = {ngram: log_images - math.log(n) for ngram, n in document_frequency.items()}
    return tuple(
        sum(
            _similarity(_weigh(candidate, rarity, log_images), _weigh(it, rarity, log_images))
            for it in group
        )
        * _SCALE
        / len(group)
        for candidate, group in zip(candidates, references, strict=True)
    )


@dataclass(frozen=True, slots=True)
class _Vector:
    """The tf-idf weights g of a text's n-grams, their norm for each n, and its words."""

    weights: dict[Words, float]
    norms: dict[int, float]
    length: int


def _weigh(words: Words, rarity: dict[Words, float], unknown: float) -> _Vector:
    weights = {
        ngram: count * rarity.get(ngram, unknown) for ngram, count in count_ngrams(words).items()
    }
    squares = dict.fromkeys(ORDERS, 0.0)
    for ngram, weight in weights.items():
        squares[len(ngram)] += weight**2
    return _Vector(weights, {n: math.sqrt(square) for n, square in squares.items()}, len(words))


def _similarity(candidate: _Vector, reference: _Vector) -> float:
    """Mean over n of the clipped cosine, lowered where the lengths differ."""
    products = dict.fromkeys(ORDERS, 0.0)
    for ngram in candidate.weights.keys() & reference.weights.keys():
        other = reference.weights[ngram]
        products[len(ngram)] += min(candidate.weights[ngram], other) * other
    cosines = (
        product / (candidate.norms[n] * reference.norms[n])
        for n, product in products.items()
        if product > 0
    )
    difference = candidate.length - reference.length
    return sum(cosines) / len(ORDERS) * math.exp(-(difference**2) / (2 * _SIGMA**2))
