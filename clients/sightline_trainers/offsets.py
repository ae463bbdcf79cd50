"""Which characters of the decoded text each sampled token wrote. Knows ids and text; no model."""

from collections.abc import Callable, Sequence
from os.path import commonprefix

Decode = Callable[[list[int]], str]
"""Ids to text: without special tokens, and without tidying up spaces."""


def decode_with_offsets(
    decode: Decode, ids: Sequence[int]
) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The text of sampled ids and, for each id, its half-open range of code points in the text.

    The ids are never tokenised again, so a text that its tokeniser would split otherwise keeps
    the tokens that were sampled. A token that writes nothing (the end token, a leading space that
    decoding strips) has an empty range. Tokens that each hold some bytes of one character share
    the range of that character. The ranges follow from decoding every prefix, which needs of the
    tokeniser only that finished characters stay as they are.
    """
    ids = list(ids)
    text = decode(ids)
    offsets: list[tuple[int, int]] = []
    start = 0
    for length in range(1, len(ids) + 1):
        prefix = decode(ids[:length])
        settled = max(start, len(commonprefix([prefix, text])))
        unfinished = len(prefix) > settled and settled < len(text)
        grew = settled > start or unfinished and _differs(decode, ids, length)
        offsets.append((start, settled + 1 if unfinished else settled) if grew else (start, start))
        start = settled
    return text, tuple(offsets)


def _differs(decode: Decode, ids: list[int], length: int) -> bool:
    """Whether the last of the first `length` ids wrote anything, be it part of a character."""
    return bool(decode(ids[length - 1 : length]))
