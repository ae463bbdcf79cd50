"""The text format of the vocabulary: one object a line with its names. Knows words, no files."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sightline_core.words import words

NOT_AN_OBJECT = "-"
"""The entity of phrases that hold an object's name but name no object ("home plate")."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a phrase means: the canonical object, and the phrase's own singular."""

    entity: str
    singular: str


@dataclass(frozen=True, slots=True)
class Name:
    """A singular and, where the file gives it, its plural."""

    singular: str
    plural: str | None


def folded(phrase: str) -> str:
    """The key under which a phrase is known: its words' keys with single spaces between."""
    return " ".join(word.key for word in words(phrase))


def parse(text: str) -> Iterator[tuple[str, tuple[Name, ...]]]:
    """The objects of a vocabulary file, in order, each with its names.

    A line is ``object: name, name/plural, ..``; the object's own name is always the first. "#"
    begins a comment.

    Raises:
        ValueError: a line has no colon.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        entity, colon, names = content.partition(":")
        if not colon:
            raise ValueError(f"line {number} of the vocabulary lacks a colon: write object: name")
        yield entity.strip(), tuple(map(_name, filter(str.strip, names.split(","))))


def render(entries: Iterable[tuple[str, Iterable[Name]]]) -> str:
    """The lines that ``parse`` reads back."""
    return "".join(f"{entity}: {', '.join(map(_written, names))}\n" for entity, names in entries)


def forms(entries: Iterable[tuple[str, Iterable[Name]]]) -> dict[str, Form]:
    """The meaning of each folded phrase; of two meanings the first stands."""
    found: dict[str, Form] = {}
    for entity, names in entries:
        for name in names:
            form = Form(entity, name.singular)
            found.setdefault(folded(name.singular), form)
            if name.plural is not None:
                found.setdefault(folded(name.plural), form)
    return found


def _name(text: str) -> Name:
    singular, slash, plural = text.strip().partition("/")
    return Name(singular.strip(), plural.strip() if slash else None)


def _written(name: Name) -> str:
    return name.singular if name.plural is None else f"{name.singular}/{name.plural}"
