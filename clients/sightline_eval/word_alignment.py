"""Which words of two texts stand for each other in METEOR. Knows stems; scores nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sightline_eval.ngrams import Words
from sightline_eval.stems import stem

EXACT, STEM = 1.0, 0.6  # what a match of equal words, or of equal stems, is worth
_TENTHS = 10  # worths are added up as whole tenths, so that equal sums are equal
_BEAM = 40


class Match(NamedTuple):
    """Word `i` of the candidate stands for word `j` of the reference."""

    i: int
    j: int
    worth: float


@dataclass(frozen=True, slots=True)
class Alignment:
    """The matches in the candidate's order, and how many unbroken runs they form."""

    matches: tuple[Match, ...]
    chunks: int


def align(candidate: Words, reference: Words) -> Alignment:
    """The best one-to-one alignment.

    Best is, in this order: the most matches, each by its worth; the fewest chunks; the smallest sum
    of distances |i - j|. It is searched word by word with a beam of 40. METEOR 1.5's program has
    the same rule, but gives up a stem match where a word has several, which its paper does not say.
    """
    stems = tuple(map(stem, reference))
    beam = [_Partial(0, 0, 0, -1, -1, 0, ())]
    for i, word in enumerate(candidate):
        options = tuple(_options(i, word, reference, stems))
        if options:
            beam = _best([longer for it in beam for longer in _continued(it, options)])
    return Alignment(beam[0].matches, beam[0].chunks)


class _Partial(NamedTuple):
    """An alignment of the words so far; of two, the smaller one is the better one.

    `i` and `j` are those of the last match, and `taken` has a bit for each matched word of the
    reference.
    """

    minus_worth: int
    chunks: int
    distance: int
    i: int
    j: int
    taken: int
    matches: tuple[Match, ...]


def _options(i: int, word: str, reference: Words, stems: Words) -> Iterator[Match]:
    stemmed = stem(word)
    for j, other in enumerate(reference):
        if stemmed == stems[j]:
            yield Match(i, j, EXACT if word == other else STEM)


def _continued(partial: _Partial, options: tuple[Match, ...]) -> Iterator[_Partial]:
    yield partial
    for match in options:
        i, j, worth = match
        if not partial.taken >> j & 1:
            runs_on = i == partial.i + 1 and j == partial.j + 1 and bool(partial.matches)
            yield _Partial(
                partial.minus_worth - round(worth * _TENTHS),
                partial.chunks + (not runs_on),
                partial.distance + abs(i - j),
                i,
                j,
                partial.taken | 1 << j,
                (*partial.matches, match),
            )


def _best(partials: list[_Partial]) -> list[_Partial]:
    """The best of those that can be continued in different ways."""
    distinct: dict[tuple[int, int, int], _Partial] = {}
    for partial in sorted(partials):
        distinct.setdefault((partial.taken, partial.i, partial.j), partial)
        if len(distinct) == _BEAM:
            break
    return list(distinct.values())
