"""The words that caption metrics compare. Knows English spelling; scores nothing.

The published caption scores tokenise with Stanford's PTBTokenizer, a Java program, in lower case
and without punctuation. This repeats its behaviour on running text. It departs in emoji (words
here), in rare abbreviations ("Blvd." loses its stop here) and in spellings such as "'tis".
"""

import re

# "-lrb-" and its like stay words because the published code drops only their upper-case form.
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_PUNCTUATION = frozenset("'`\".?!,:;-–—…“”‘")
_WORD = re.compile(
    r"""
      https?://[^\s"<>]+ | [\w.+-]+@[\w-]+(?:\.[\w-]+)+                  # addresses
    | (?:mr|mrs|ms|dr|prof|st|jr|sr|vs|etc)\.(?=\s) | (?:[a-z]\.){2,}    # "dr. x", "u.s."
    | [@\#]\w+
    | \d+(?:[.,:/-]\d+)+ | o'\w+
    | n't\b | '(?:s|re|ve|ll|d|m)\b                                      # split off by _CLITIC
    | \w+(?:[-/.&]\w+)*                                                  # "well-known", "and/or"
    | [^\w\s]
    """,
    re.VERBOSE,
)
_CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|re|ve|ll|d|m))\b")
_JOINED = re.compile(r"\b(?:(can)(not)|(gon|wan)(na)|(got)(ta)|(lem|gim)(me))\b")


def penn_words(text: str) -> tuple[str, ...]:
    """The words of a text: "A man's well-known dog." gives a, man, 's, well-known, dog.

    A contraction is two words ("does n't", "dog 's", "can not"), a hyphenated word is one, a
    bracket is "-lrb-" or "-rrb-", and other punctuation is dropped.
    """
    plain = text.lower().replace("’", "'")
    apart = _JOINED.sub(_two_words, _CLITIC.sub(r" \1", plain))
    found: list[str] = _WORD.findall(apart)
    return tuple(_BRACKETS.get(word, word) for word in found if word not in _PUNCTUATION)


def _two_words(match: re.Match[str]) -> str:
    return " ".join(part for part in match.groups() if part)
