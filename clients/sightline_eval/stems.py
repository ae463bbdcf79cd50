"""English word stems: "sits" and "sitting" have one. Knows spelling rules; has no dictionary.

Porter's second stemmer for English (snowballstem.org/algorithms/english/stemmer.html, as of 2012),
which METEOR 1.5 uses. Its step names are kept. R1 is what follows the first consonant after a
vowel, R2 the same within R1; most suffixes go only where they lie in one of them. A "y" that
sounds as a consonant is written "Y" meanwhile.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

_WHOLE = {
    **{"skis": "ski", "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie"},
    **{"idly": "idl", "gently": "gentl", "ugly": "ugli", "early": "earli", "only": "onli"},
    **{"singly": "singl"},
    **{word: word for word in ("sky", "news", "howe", "atlas", "cosmos", "bias", "andes")},
}
_AFTER_PLURAL = frozenset(
    ("inning", "outing", "canning", "herring", "earring", "proceed", "exceed", "succeed")
)
_STEP_2: Mapping[str, str] = {
    "ization": "ize", "ational": "ate", "fulness": "ful", "ousness": "ous", "iveness": "ive",
    "tional": "tion", "biliti": "ble", "lessli": "less", "entli": "ent", "ation": "ate",
    "alism": "al", "aliti": "al", "ousli": "ous", "iviti": "ive", "fulli": "ful", "enci": "ence",
    "anci": "ance", "abli": "able", "izer": "ize", "ator": "ate", "alli": "al", "bli": "ble",
    "ogi": "og", "li": "",
}  # fmt: skip
_STEP_3: Mapping[str, str] = {
    "ational": "ate", "tional": "tion", "alize": "al", "icate": "ic", "iciti": "ic", "ative": "",
    "ical": "ic", "ness": "", "ful": "",
}  # fmt: skip
_STEP_4 = (
    "ement", "ance", "ence", "able", "ible", "ment", "ant", "ent", "ism", "ate", "iti", "ous",
    "ive", "ize", "ion", "al", "er", "ic",
)  # fmt: skip
_REGION = re.compile(r".*?[aeiouy][^aeiouy]")
_R1_EXCEPTIONS = re.compile(r"gener|commun|arsen")
_VOWEL = re.compile(r"[aeiouy]")
_SHORT_SYLLABLE = re.compile(r"(?:[^aeiouy][aeiouy][^aeiouywxY]|^[aeiouy][^aeiouy])$")
_DOUBLE = re.compile(r"(?:bb|dd|ff|gg|mm|nn|pp|rr|tt)$")


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """The stem of a lower-case word; it need not be a word itself ("pony" -> "poni")."""
    if len(word) <= 2:
        return word
    if word in _WHOLE:
        return _WHOLE[word]
    word = re.sub(r"^y|(?<=[aeiouy])y", "Y", word.removeprefix("'"))
    r1 = _region_start(word)
    r2 = _region_end(word, r1)
    word = _step_1a(re.sub(r"'s?'?$", "", word))
    if word in _AFTER_PLURAL:
        return word
    word = _step_1c(_step_1b(word, r1))
    word = _step_3(_step_2(word, r1), r1, r2)
    return _step_5(_step_4(word, r2), r1, r2).replace("Y", "y")


def _region_start(word: str) -> int:
    exception = _R1_EXCEPTIONS.match(word)
    return exception.end() if exception else _region_end(word, 0)


def _region_end(word: str, start: int) -> int:
    match = _REGION.match(word, start)
    return match.end() if match else len(word)


def _step_1a(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith(("ied", "ies")):
        return word[:-2] if len(word) > 4 else word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")) and _VOWEL.search(word[:-2]):
        return word[:-1]
    return word


def _step_1b(word: str, r1: int) -> str:
    suffix = _longest(word, ("eedly", "ingly", "edly", "eed", "ing", "ed"))
    rest = word[: len(word) - len(suffix)]
    if suffix.startswith("ee"):
        return rest + "ee" if len(rest) >= r1 else word
    if not suffix or not _VOWEL.search(rest):
        return word
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if _DOUBLE.search(rest):
        return rest[:-1]
    is_short = len(rest) <= r1 and _SHORT_SYLLABLE.search(rest)
    return rest + "e" if is_short else rest


def _step_1c(word: str) -> str:
    final = len(word) > 2 and word[-1] in "yY" and word[-2] not in "aeiouy"
    return word[:-1] + "i" if final else word


def _step_2(word: str, r1: int) -> str:
    suffix = _longest(word, _STEP_2)
    rest = word[: len(word) - len(suffix)]
    keeps = (suffix == "ogi" and not rest.endswith("l")) or (
        suffix == "li" and rest[-1:] not in tuple("cdeghkmnrt")
    )
    return word if not suffix or keeps or len(rest) < r1 else rest + _STEP_2[suffix]


def _step_3(word: str, r1: int, r2: int) -> str:
    suffix = _longest(word, _STEP_3)
    rest = word[: len(word) - len(suffix)]
    start = r2 if suffix == "ative" else r1
    return word if not suffix or len(rest) < start else rest + _STEP_3[suffix]


def _step_4(word: str, r2: int) -> str:
    suffix = _longest(word, _STEP_4)
    rest = word[: len(word) - len(suffix)]
    keeps = suffix == "ion" and not rest.endswith(("s", "t"))
    return word if keeps or len(rest) < r2 else rest


def _step_5(word: str, r1: int, r2: int) -> str:
    rest = word[:-1]
    if word.endswith("e"):
        goes = len(rest) >= r2 or (len(rest) >= r1 and not _SHORT_SYLLABLE.search(rest))
        return rest if goes else word
    return rest if word.endswith("ll") and len(rest) >= r2 else word


def _longest(word: str, suffixes: Iterable[str]) -> str:
    """The first of `suffixes`, of which long ones come first, that ends the word; else ""."""
    return next((suffix for suffix in suffixes if word.endswith(suffix)), "")
