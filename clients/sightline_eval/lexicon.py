"""Which words name which COCO object, as CHAIR has it. Knows its data file; reads no captions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Literal

import inflect

Mode = Literal["strict", "clean"]

_DOUBLE_WORDS = (
    "motor bike, motor cycle, air plane, traffic light, street light, traffic signal, stop light, "
    "fire hydrant, stop sign, parking meter, suit case, sports ball, baseball bat, baseball glove, "
    "tennis racket, wine glass, hot dog, cell phone, mobile phone, teddy bear, hair drier, "
    "potted plant, laptop computer"
)
# They name no object: "home plate" is no plate, "train track" no train.
_DECOYS = ("home plate", "train track")
_ANIMALS = "bird cat dog horse sheep cow elephant bear zebra giraffe animal cub"
_VEHICLES = "jet train"
_ENGINE = inflect.engine()


@dataclass(frozen=True, slots=True)
class Lexicon:
    """The words of the objects, and the phrases that are read as one word.

    Attributes:
        mode: "strict" as the metric's published code behaves, "clean" with its slips mended.
        objects: word or phrase -> object.
        phrases: phrase of two or more words -> the word that it is read as.
        words: every single word of the objects and phrases.
        longest: the most words that a phrase has.
    """

    mode: Mode
    objects: Mapping[str, str]
    phrases: Mapping[str, str]
    words: frozenset[str] = field(init=False, repr=False)
    longest: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Derives the words and the longest phrase."""
        entries = [entry.split() for entry in (*self.objects, *self.phrases)]
        object.__setattr__(self, "words", frozenset(word for entry in entries for word in entry))
        object.__setattr__(self, "longest", max(map(len, entries)))

    def singular(self, word: str) -> str:
        """The singular of a lower-case word, where that leads to a word of the lexicon."""
        return _singular(word, self.words)

    def with_names(self, names: Iterable[str]) -> "Lexicon":
        """The lexicon with further objects; a name that it knows already keeps its meaning."""
        new = [name for name in map(str.lower, names) if name not in self.objects]
        phrases = {name: name for name in new if " " in name and name not in self.phrases}
        return replace(
            self,
            objects=MappingProxyType({**self.objects, **{name: name for name in new}}),
            phrases=MappingProxyType({**self.phrases, **phrases}),
        )


@cache
def load_lexicon(mode: Mode) -> Lexicon:
    """The synonyms of the 80 COCO categories (`data/NOTICE` says whose list it is).

    "strict" keeps what the published code does with the list: entries with a leading blank
    (" motor bike", " cheesecake"), with a capital ("iPhone") or of three words ("stove top oven")
    never match. "clean" matches them all, and reads every entry of several words as one.
    """
    objects = _synonyms(mode)
    phrases = _phrases()
    if mode == "clean":
        phrases |= {name: name for name in objects if " " in name and name not in phrases}
    return Lexicon(mode, MappingProxyType(objects), MappingProxyType(phrases))


def _synonyms(mode: Mode) -> dict[str, str]:
    text = files("sightline_eval").joinpath("data/coco_synonyms.txt").read_text(encoding="utf-8")
    lines = [line.strip().split(", ") for line in text.splitlines()]
    entries = {word: words[0] for words in lines for word in words}
    if mode == "strict":
        return entries
    return {word.strip().lower(): name for word, name in entries.items()}


def _phrases() -> dict[str, str]:
    phrases = {phrase: phrase for phrase in (*_DOUBLE_WORDS.split(", "), *_DECOYS)}
    for age in ("baby", "adult"):
        phrases |= {f"{age} {animal}": animal for animal in _ANIMALS.split()}
    phrases |= {f"passenger {vehicle}": vehicle for vehicle in _VEHICLES.split()}
    return phrases | {"bow tie": "tie", "toilet seat": "toilet"}


@cache
def _singular(word: str, known: frozenset[str]) -> str:
    # The known words come first: "bus", "tennis" and "skis" only look like plurals.
    if word in known or not word.isalpha():
        return word
    singular = _ENGINE.singular_noun(word)
    return singular if singular and singular in known else word
