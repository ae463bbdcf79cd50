"""The pieces of an answer that ASPO weighs, and the tokens of each. Knows text; no model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sightline_core.perplexity import sentence_log_probs
from sightline_core.sentences import Sentence, split_sentences

Level = Literal["response", "sentence", "token"]

_WORD = re.compile(r"\s*\S+\s*")


@dataclass(frozen=True, slots=True)
class Segments:
    """An answer cut into segments that partition its tokens.

    Attributes:
        pieces: what is scored for each segment: the sentence, the answer, or a token's word.
        of_token: each token's segment, in order, the end token's too; every segment has a token.
    """

    pieces: tuple[Sentence, ...]
    of_token: tuple[int, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each piece, without the space around it."""
        return tuple(piece.text.strip() for piece in self.pieces)


def cut_answer(text: str, offsets: Sequence[tuple[int, int]], level: Level) -> Segments:
    """Cuts an answer that is not blank into one segment, its sentences, or its tokens.

    Args:
        text: the answer.
        offsets: the range of characters of each of its tokens, in order.
        level: what a segment is.
    """
    if level == "response":
        return Segments((Sentence(text, 0, len(text)),), (0,) * len(offsets))
    if level == "sentence":
        return _owned(split_sentences(text), offsets)
    words = _owned([Sentence(m[0], *m.span()) for m in _WORD.finditer(text)], offsets)
    pieces = tuple(words.pieces[word] for word in words.of_token)
    return Segments(pieces, tuple(range(len(offsets))))


def _owned(partition: Sequence[Sentence], offsets: Sequence[tuple[int, int]]) -> Segments:
    """The pieces of a partition of the text that have tokens, and each token's piece."""
    sums = sentence_log_probs(partition, offsets, [0.0] * len(offsets))
    counted = [(piece, n) for piece, (_, n) in zip(partition, sums, strict=True) if n]
    # tokens lie in the order of the text, so the counts say which are whose
    of_token = tuple(number for number, (_, n) in enumerate(counted) for _ in range(n))
    return Segments(tuple(piece for piece, _ in counted), of_token)
