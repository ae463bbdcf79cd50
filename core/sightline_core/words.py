"""Cuts a text into words with their places, for matching. Knows Unicode; knows no vocabulary."""

import re
import unicodedata
from typing import NamedTuple

_RUN = re.compile(r"[^\W_]+")
_JOINER = re.compile(r"\s+|[-\u2010\u2011_'\u2019]")
_HYPHENS = frozenset("-\u2010\u2011")


class Word(NamedTuple):
    """A run of letters, digits and combining marks: ``text[start:end]``, and its folded key.

    A tuple, because texts have many and a frozen dataclass is made in three times the time.
    """

    key: str
    start: int
    end: int


def words(text: str) -> tuple[Word, ...]:
    """The words of ``text`` in order; offsets are code points of the text as given.

    Keys are case-folded and canonically decomposed, so that "CAFE\u0301" and "caf\u00e9" are one.
    """
    if text.isascii():  # no marks to look for, and no letter is longer in lower case
        return tuple(Word(run[0], *run.span()) for run in _RUN.finditer(text.lower()))
    found: list[Word] = []
    start = end = 0
    for run in _RUN.finditer(text):
        if run.start() > end or start == end:
            if start < end:
                found.append(_word(text, start, end))
            start = run.start()
        end = _marks_end(text, run.end())
    if start < end:
        found.append(_word(text, start, end))
    return tuple(found)


def joined(text: str, left: Word, right: Word) -> bool:
    """Whether nothing but one gap (whitespace, hyphen, underscore or apostrophe) is between."""
    return _JOINER.fullmatch(text, left.end, right.start) is not None


def modifies(text: str, word: Word) -> bool:
    """Whether a hyphen ties ``word`` to a word after it ("dog-friendly", "man-made")."""
    after = text[word.end : word.end + 2]
    return len(after) == 2 and after[0] in _HYPHENS and after[1].isalpha()


def _word(text: str, start: int, end: int) -> Word:
    written = text[start:end]
    key = written.lower() if written.isascii() else unicodedata.normalize("NFD", written.casefold())
    return Word(key, start, end)


def _marks_end(text: str, position: int) -> int:
    """The end of the combining marks at ``position``; variation selectors are no part of a word."""
    while (
        position < len(text)
        and not text[position].isascii()
        and unicodedata.category(text[position]).startswith("M")
        and not "\ufe00" <= text[position] <= "\ufe0f"
    ):
        position += 1
    return position
