"""Cuts a text into sentences that partition it. Knows punctuation; knows no tokeniser or model."""

import re
import unicodedata
from dataclasses import dataclass


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_BEFORE_ANYTHING = _set("mr mrs ms dr vs e.g i.e cf viz approx ca")
_BEFORE_A_NAME = _set(
    "adm brig capt cmdr col cpl fr gen gov hon lt maj messrs mme mt mx pres prof rep rev sen sgt st"
)  # only with a capital
_BEFORE_A_NUMBER = _set("art ch eq eqs fig figs no nos nr p pp sec vol")
_BEFORE_LOWER_CASE = _set(
    "a.m p.m etc inc ltd corp bros jr sr dept est al ave blvd rd ft lb lbs oz avg jan feb apr jun "
    "jul aug sep sept oct nov dec tue tues thu thur thurs fri"
)
_STARTERS = _set(
    "a additionally after all also although an and another as at because before behind below "
    "beside both but by during each every finally for from furthermore he her here his however i "
    "if in into it its meanwhile moreover my near next no nobody on one our out over overall she "
    "since so some that the their then there these they this those though three to two under we "
    "what when where which while who with you your"
)
_DAYS_AND_MONTHS = _set(
    "monday tuesday wednesday thursday friday saturday sunday january february march april may "
    "june july august september october november december"
)
_LINE_ENDS = frozenset("\n\r\x85\u2028\u2029")
_WIDE_STOPS = frozenset("。！？｡．")  # these end a sentence without a space after them
_CLOSERS = frozenset("\"'*_`")
_TRAILING_CATEGORIES = frozenset({"Pe", "Pf", "So", "Sk", "Mn", "Me", "Cf"})
_LONGEST_ABBREVIATION = 16
_LONGEST_ENUMERATOR = 6

_BREAK = re.compile(r"[.!?…。！？｡．।؟۔]+|[\n\r\x85\u2028\u2029]")
_SPACE = re.compile(r"\s*")
_LETTERS = re.compile(r"[^\W\d_]+")
_ENUMERATOR = re.compile(r"[(\[*_]*(?:\d{1,3}|[A-Za-z]|[ivxIVX]{1,4})")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A piece of a text: ``text[start:end]``, half-open, in Unicode code points."""

    text: str
    start: int
    end: int


def split_sentences(text: str) -> tuple[Sentence, ...]:
    """Cuts ``text`` at sentence ends and line ends; the pieces joined are the text again.

    Whitespace after a sentence belongs to it, whitespace before the first to the first. Stops in
    abbreviations, initials, numbers and list enumerators do not cut; quotes, brackets and emoji
    after a stop stay with its sentence. An empty text has no sentences.
    """
    first = _BREAK.search(text)
    if text and (first is None or first.end() == len(text)):  # so are most captions
        return (Sentence(text, 0, len(text)),)
    return _split(text)


def _split(text: str) -> tuple[Sentence, ...]:
    sentences: list[Sentence] = []
    start, first_mark = 0, _space_end(text, 0)
    for found in _BREAK.finditer(text, first_mark):
        if found.start() < start:
            continue
        end = _cut(text, max(start, first_mark), found)
        if end is not None:
            sentences.append(Sentence(text[start:end], start, end))
            start = end
    if start < len(text):
        sentences.append(Sentence(text[start:], start, len(text)))
    return tuple(sentences)


def _cut(text: str, start: int, found: re.Match[str]) -> int | None:
    """Where the sentence that begins at ``start`` ends if this stop ends it, else None."""
    if found[0] in _LINE_ENDS:
        return _space_end(text, found.end())
    stop = _closed(text, found.end())
    end = _space_end(text, stop)
    if end == len(text) or not _LINE_ENDS.isdisjoint(text[stop:end]):
        return end
    if not _WIDE_STOPS.isdisjoint(found[0]):
        in_number = text[found.start() - 1 : found.start()].isdigit() and text[stop].isdigit()
        return None if in_number else end
    if end == stop or text[end] in ".…":
        return None
    return end if _ends(text, start, found, stop, end) else None


def _ends(text: str, start: int, found: re.Match[str], stop: int, following: int) -> bool:
    """Whether a stop with a space after it ends its sentence; the text goes on at ``following``."""
    if text[following].islower() and (stop > found.end() or _is_ellipsis(text, found)):
        return False
    if found[0] != ".":
        return True
    before = found.start()
    if before - start <= _LONGEST_ENUMERATOR and _ENUMERATOR.fullmatch(text, start, before):
        return False
    return not _is_abbreviation(_word_before(text, before), text, following)


def _is_abbreviation(word: str, text: str, following: int) -> bool:
    """Whether the stop after ``word`` only abbreviates it; the text goes on at ``following``."""
    folded = word.lower()
    if folded in _BEFORE_ANYTHING or (folded in _BEFORE_A_NAME and word[0].isupper()):
        return True
    if folded in _BEFORE_A_NUMBER and text[following].isdigit():
        return True
    match = _LETTERS.match(text, following)
    after = match[0] if match else ""
    if folded in _BEFORE_LOWER_CASE:
        return not after[:1].isupper() or after.lower() in _DAYS_AND_MONTHS
    if _INITIALS.fullmatch(word) and (word[0].isupper() or "." in word) and word != "I":
        return after.lower() not in _STARTERS
    return False


def _word_before(text: str, stop: int) -> str:
    if text[stop - 1 : stop].isspace():
        return ""
    words = text[max(0, stop - _LONGEST_ABBREVIATION) : stop].split()
    return words[-1].lstrip("([{\"'“‘«*_`") if words else ""


def _is_ellipsis(text: str, found: re.Match[str]) -> bool:
    spaced = text[max(0, found.start() - 2) : found.start()].strip() == "."
    return spaced or found[0].endswith(("…", ".."))


def _closed(text: str, position: int) -> int:
    """The end of the quotes, brackets, emphasis marks and emoji that follow a stop."""
    while position < len(text) and (
        text[position] in _CLOSERS or unicodedata.category(text[position]) in _TRAILING_CATEGORIES
    ):
        position += 1
    return position


def _space_end(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None
    return match.end()
