"""Finds the objects that a text names. Knows words and the shipped vocabulary; knows no model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Self

from sightline_core.senses import is_colour
from sightline_core.vocabulary_file import NOT_AN_OBJECT, Form, Name, folded, forms, parse
from sightline_core.words import Word, joined, modifies, words


@dataclass(frozen=True, slots=True)
class Span:
    """One mention: ``text`` as written at ``[start, end)`` in code points, and the object named."""

    text: str
    entity: str
    start: int
    end: int


@dataclass(slots=True)
class _Node:
    form: Form | None = None
    after: dict[str, "_Node"] = field(default_factory=dict[str, "_Node"])


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Objects and the words and phrases that name them.

    ``forms`` maps a folded phrase (``vocabulary_file.folded``) to its meaning.
    """

    forms: Mapping[str, Form]
    _root: _Node = field(init=False, repr=False)

    def __post_init__(self) -> None:  # noqa: D105 - builds the tree, nothing to document
        object.__setattr__(self, "forms", MappingProxyType(dict(self.forms)))
        object.__setattr__(self, "_root", _tree(self.forms))

    @property
    def names(self) -> tuple[str, ...]:
        """The canonical objects, COCO's 80 first and in COCO's order."""
        entities = dict.fromkeys(form.entity for form in self.forms.values())
        return tuple(entity for entity in entities if entity != NOT_AN_OBJECT)

    def canonical(self, surface: str) -> str | None:
        """The object that a word or phrase names, whatever its case, number or spacing, or None."""
        form = self._form(surface)
        return None if form is None else form.entity

    def singular(self, surface: str) -> str | None:
        """The known phrase in lower case and in the singular ("Puppies": "puppy"), or None."""
        form = self._form(surface)
        return None if form is None else form.singular

    def with_extra(self, names: Iterable[str]) -> Self:
        """The vocabulary with more objects, each known by its name and that name's plural.

        A name that is known already keeps its meaning. Underscores count as spaces and a sense in
        brackets is left out, as in LVIS: "crab_(animal)" is "crab".

        Raises:
            ValueError: a name has no letter or digit.
        """
        from sightline_core.inflection import plural  # slow to import, and needed only here

        entries = [(name, [Name(name, plural(name))]) for name in map(_bare, names)]
        extra = {key: form for key, form in forms(entries).items() if self.canonical(key) is None}
        kept = {key: form for key, form in self.forms.items() if key not in extra}
        return type(self)(kept | extra)

    def longest(self, text: str, parts: Sequence[Word], first: int) -> tuple[Form | None, int]:
        """The longest known phrase that begins at word ``first``, and where its last word is."""
        best, last = None, first
        node = self._root
        for index in range(first, len(parts)):
            follower = node.after.get(parts[index].key)
            if follower is None or (
                index > first and not joined(text, parts[index - 1], parts[index])
            ):
                break
            node = follower
            if node.form is not None:
                best, last = node.form, index
        return best, last

    def _form(self, surface: str) -> Form | None:
        form = self.forms.get(folded(surface))
        return None if form is None or form.entity == NOT_AN_OBJECT else form


def _tree(known: Mapping[str, Form]) -> _Node:
    root = _Node()
    for key, form in known.items():
        node = root
        for word in key.split():
            node = node.after.setdefault(word, _Node())
        node.form = form
    return root


def _bare(name: str) -> str:
    """An LVIS-style name as it is written in a text."""
    bare = " ".join(name.partition("(")[0].replace("_", " ").lower().split())
    if not folded(bare):
        raise ValueError(f"names holds {name!r}: give names with letters or digits")
    return bare


@cache
def load_vocabulary() -> Vocabulary:
    """The shipped vocabulary: COCO's names with synonyms, then LVIS's (entities/README.md)."""
    text = (files("sightline_core") / "entities" / "forms.txt").read_text(encoding="utf-8")
    return Vocabulary(forms(parse(text)))


def find_spans(text: str, vocabulary: Vocabulary) -> tuple[Span, ...]:
    """The objects that ``text`` names, in order and without overlap.

    At each word the longest known phrase wins; its words may be parted by any one run of
    whitespace, a hyphen, an underscore or an apostrophe. Case, plural and possessive do not
    matter. A name tied by a hyphen to the word after it is no mention ("dog-friendly"), nor is a
    fruit's name used as a colour ("an orange cat"). Only whole words match: scripts that write no
    spaces are not cut into words.
    """
    found: list[Span] = []
    parts = words(text)
    position = 0
    while position < len(parts):
        form, last = vocabulary.longest(text, parts, position)
        if form is None:
            position += 1
            continue
        start, end = parts[position].start, parts[last].end
        named = form.entity != NOT_AN_OBJECT and not modifies(text, parts[last])
        if named and not (position == last and is_colour(text, parts, position)):
            found.append(Span(text[start:end], form.entity, start, end))
        position = last + 1
    return tuple(found)


def verifier_text(span: Span) -> str:
    """What the verifier is asked about: the form as written, lower-case, whitespace collapsed."""
    return " ".join(span.text.lower().split())
