"""The objects that a caption names, by CHAIR's rules. Knows a lexicon; knows no images."""

import re
from dataclasses import dataclass

from sightline_eval.lexicon import Lexicon

_WORD = {
    "strict": re.compile(r"\w+(?:[-/.]\w+)*"),  # as a Treebank tokeniser: "hot-dog" stays one word
    "clean": re.compile(r"\w+"),
}


@dataclass(frozen=True, slots=True)
class Mention:
    """One object word or phrase of a caption.

    `word` is what the text was read as, `object` the COCO category that it stands for, `start` and
    `end` its half-open character range, `index` its place among the caption's words.
    """

    object: str
    word: str
    start: int
    end: int
    index: int


def find_mentions(caption: str, lexicon: Lexicon) -> tuple[Mention, ...]:
    """Every object mention of the caption, in order and with repetition.

    Words are lower-cased and made singular, phrases are merged from left to right (longest first),
    and what the lexicon knows is kept. Where a toilet is named, "seat" does not mean a chair.

    In strict mode `index` repeats a slip of the published code: after a dropped "seat" it is read
    from the list as it was before.
    """
    words = _merged(caption, lexicon)
    kept = words
    if any(word.text == "toilet" for word in words):
        kept = [word for word in words if word.text != "seat"]
    indices = words if lexicon.mode == "strict" else kept
    return tuple(
        Mention(lexicon.objects[word.text], word.text, word.start, word.end, place.index)
        for word, place in zip(kept, indices, strict=False)
        if word.text in lexicon.objects
    )


def count_words(caption: str) -> int:
    """The caption's length in words; punctuation does not count."""
    return len(_WORD["strict"].findall(caption))


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    start: int
    end: int
    index: int


def _merged(caption: str, lexicon: Lexicon) -> list[_Word]:
    words = _singular_words(caption, lexicon)
    merged: list[_Word] = []
    while words:
        size = _phrase_size(words, lexicon)
        phrase = " ".join(word.text for word in words[:size])
        text = lexicon.phrases[phrase] if size > 1 else phrase
        merged.append(_Word(text, words[0].start, words[size - 1].end, words[0].index))
        words = words[size:]
    return merged


def _phrase_size(words: list[_Word], lexicon: Lexicon) -> int:
    """How many of the first words form one phrase; 1 where none does."""
    for size in range(min(lexicon.longest, len(words)), 1, -1):
        if " ".join(word.text for word in words[:size]) in lexicon.phrases:
            return size
    return 1


def _singular_words(caption: str, lexicon: Lexicon) -> list[_Word]:
    matches = _WORD[lexicon.mode].finditer(caption)
    return [
        _Word(lexicon.singular(match.group().lower()), match.start(), match.end(), index)
        for index, match in enumerate(matches)
    ]
