"""BLEU of captions against several references each. Knows words; reads no text.

Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002, as
COCO's caption scores have it: over the whole set, with the closest reference's length.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sightline_eval.ngrams import ORDERS, Words, count_ngrams


@dataclass(frozen=True, slots=True)
class BleuCounts:
    """What one caption adds to the set's score.

    Attributes:
        correct: n-grams that a reference has too, for n of 1 to 4; no more often than the
            reference that has them most often.
        total: n-grams of the caption, for n of 1 to 4.
        length: words of the caption.
        reference_length: words of the reference closest in length; of two, the shorter one.
    """

    correct: tuple[int, ...]
    total: tuple[int, ...]
    length: int
    reference_length: int


def count_bleu(candidate: Words, references: Sequence[Words]) -> BleuCounts:
    """Counts one caption against its references, of which there is at least one."""
    ceiling: Counter[Words] = Counter()
    for reference in references:
        ceiling |= count_ngrams(reference)
    clipped = count_ngrams(candidate) & ceiling
    lengths = (len(reference) for reference in references)
    return BleuCounts(
        correct=tuple(
            sum(count for ngram, count in clipped.items() if len(ngram) == n) for n in ORDERS
        ),
        total=tuple(max(len(candidate) - n + 1, 0) for n in ORDERS),
        length=len(candidate),
        reference_length=min(lengths, key=lambda length: (abs(length - len(candidate)), length)),
    )


def bleu(counts: Sequence[BleuCounts], order: int) -> float:
    """BLEU-`order` of a set of captions, in [0, 1].

    Where no run of `order` words is right, this is 0; the published code, guarding against division
    by zero, gives a figure slightly above.
    """
    sums = np.sum([(*it.correct[:order], *it.total[:order]) for it in counts], axis=0)
    correct, total = sums[:order], sums[order:]
    if not correct.all():
        return 0.0
    length = sum(it.length for it in counts)
    reference_length = sum(it.reference_length for it in counts)
    penalty = min(0.0, 1 - reference_length / length)
    return math.exp(float(np.log(correct / total).mean()) + penalty)
