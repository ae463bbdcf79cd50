"""Sentences about scenes: faithful, noisy and habit-driven captions, swaps, questions.

Knows layouts; knows nothing of pixels.

Captions name objects from left to right, because a fixed order is far easier to learn than a
random one. All text uses category names in the singular with an article.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sightline_world.categories import CATEGORIES, category, scene_type
from sightline_world.scenes import SIZE, Layout, absent

PLACES = ("on the left", "on the right", "at the top", "at the bottom", "in the middle")
DESCRIBE = "Describe the image."
GROUNDED = f"<context>\n{{context}}\n</context>\n{DESCRIBE}"
"""Describe the image with the help of boxes: `format_context` with a bullet before each."""
BULLET = "- "
"""Behind it a name is split into the same tokens as in a caption."""

_NEAR = 0.12  # half the width of the middle third, of the scene's side
_PLURAL_ONLY = frozenset({"skis", "scissors"})
_SURFACE_FORMS = {form: c.name for c in CATEGORIES for form in (c.name, c.plural)}
_MENTION = re.compile(
    r"\b(" + "|".join(sorted(map(re.escape, _SURFACE_FORMS), key=len, reverse=True)) + r")\b"
)


@dataclass(frozen=True, slots=True)
class Swap:
    """A faithful caption and the same one with one object replaced by an absent one."""

    faithful: str
    hallucinated: str
    removed: str
    inserted: str


def place(box: tuple[int, int, int, int]) -> str:
    """Where a box lies, in words: one of ``PLACES``, by the axis along which it is further out."""
    x = (box[0] + box[2]) / 2 / SIZE - 0.5
    y = (box[1] + box[3]) / 2 / SIZE - 0.5
    if max(abs(x), abs(y)) <= _NEAR:
        return "in the middle"
    if abs(x) >= abs(y):
        return "on the left" if x < 0 else "on the right"
    return "at the top" if y < 0 else "at the bottom"


def faithful(layout: Layout, rng: np.random.Generator) -> str:
    """Three to five sentences that name exactly the objects of the scene, from left to right."""
    return _compose(layout.kind, _left_to_right(layout), rng)


def noisy(
    layout: Layout, rng: np.random.Generator, *, insert: float = 0.2, omit: float = 0.1
) -> str:
    """A faithful caption with careless mistakes.

    Each object is left out with probability ``omit`` (one always stays); with probability
    ``insert`` one absent object that the scene makes likely is named somewhere.
    """
    named = _kept(layout, rng, omit)
    if rng.random() < insert:
        position = int(rng.integers(len(named) + 1))
        named.insert(position, (absent(layout, rng), _any_place(rng)))
    return _compose(layout.kind, named, rng)


def habitual(
    layout: Layout,
    rng: np.random.Generator,
    *,
    habit: float = 0.7,
    insert: float = 0.1,
    omit: float = 0.1,
) -> str:
    """A careless caption with a language prior's structured mistake on top.

    Where exactly one of the two objects that usually go together in this type of scene is
    present, the other is named too with probability ``habit``, in a last sentence.
    """
    text = noisy(layout, rng, insert=insert, omit=omit)
    missing = habit_object(layout)
    if missing is not None and missing not in mentioned(text) and rng.random() < habit:
        text += f" {_there_is([(missing, _any_place(rng))])}"
    return text


def habit_object(layout: Layout) -> str | None:
    """The absent half of the scene type's usual pair, or None where both or neither is present."""
    missing = [name for name in scene_type(layout.kind).habit if name not in layout.names]
    return missing[0] if len(missing) == 1 else None


def swap(
    layout: Layout, rng: np.random.Generator, *, hard: bool = True, keep: int | None = None
) -> Swap:
    """Two captions that differ in one object: its name is replaced by an absent category's.

    The absent object takes over the place of the one it replaces, so nothing but the name differs
    (with its article or verb). ``hard`` chooses it by the scene type's prior (``scenes.absent``).
    The captions name every object, or ``keep`` random ones.
    """
    named = _left_to_right(layout)
    if keep is not None and keep < len(named):
        chosen = sorted(rng.choice(len(named), keep, replace=False))
        named = [named[i] for i in chosen]
    inserted = absent(layout, rng, hard=hard)
    position = int(rng.integers(len(named)))
    removed, where = named[position]
    wording = int(rng.integers(2**32))
    changed = [*named[:position], (inserted, where), *named[position + 1 :]]
    right, wrong = (
        _compose(layout.kind, mentions, np.random.default_rng(wording))
        for mentions in (named, changed)
    )
    return Swap(right, wrong, removed, inserted)


def short(names: Sequence[str], rng: np.random.Generator) -> str:
    """One phrase that lists ``names`` (at least one) in the given order."""
    phrases = listing([category(name).noun_phrase for name in names])
    forms = (f"A photo of {phrases}.", f"{_verb(names[0])} {phrases}.", phrases, ", ".join(names))
    return forms[int(rng.integers(len(forms)))]


def question(name: str) -> str:
    """The yes/no question of POPE about one category: "Is there a dog in the image?"."""
    verb = "Are" if name in _PLURAL_ONLY else "Is"
    return f"{verb} there {category(name).noun_phrase} in the image?"


def mentioned(text: str) -> tuple[str, ...]:
    """The categories that a text names, singular or plural, once each, in order."""
    found = (_SURFACE_FORMS[m.group(1)] for m in _MENTION.finditer(text.lower()))
    return tuple(dict.fromkeys(found))


def listing(phrases: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(part for part in (", ".join(phrases[:-1]), phrases[-1]) if part)


Mentions = list[tuple[str, str]]  # (category name, place) in the order of the caption


def _left_to_right(layout: Layout) -> Mentions:
    ordered = sorted(layout.objects, key=lambda thing: thing.box[0] + thing.box[2])
    return [(thing.name, place(thing.box)) for thing in ordered]


def _kept(layout: Layout, rng: np.random.Generator, omit: float) -> Mentions:
    named = _left_to_right(layout)
    kept = [mention for mention in named if rng.random() >= omit]
    return kept or named[:1]


def _any_place(rng: np.random.Generator) -> str:
    return PLACES[int(rng.integers(len(PLACES)))]


_IN_OPENING: Mapping[int, tuple[int, ...]] = {1: (0,), 2: (0,), 3: (0, 1), 4: (1, 2), 5: (1, 2)}


def _compose(kind: str, mentions: Mentions, rng: np.random.Generator) -> str:
    """An opening with up to two objects, then one or two a sentence: three to five in all."""
    choices = _IN_OPENING.get(len(mentions), (2,))
    first = choices[int(rng.integers(len(choices)))]
    sentences = [_opening(kind, [name for name, _ in mentions[:first]], rng)]
    rest = mentions[first:]
    while rest:
        crowded = len(rest) + len(sentences) > 5
        take = 2 if len(rest) > 2 and (crowded or rng.random() < 0.25) else 1
        sentences.append(_there_is(rest[:take]))
        rest = rest[take:]
    return " ".join(sentences)


def _opening(kind: str, names: Sequence[str], rng: np.random.Generator) -> str:
    scene = scene_type(kind).noun_phrase
    things = [category(name).noun_phrase for name in names]
    tail = f" with {listing(things)}" if things else ""
    forms = (f"The image shows {scene}", f"This is {scene}", f"A photo of {scene}")
    return f"{forms[int(rng.integers(len(forms)))]}{tail}."


def _there_is(mentions: Mentions) -> str:
    parts = [f"{category(name).noun_phrase} {where}" for name, where in mentions]
    return f"{_verb(mentions[0][0])} {listing(parts)}."


def _verb(name: str) -> str:
    return "There are" if name in _PLURAL_ONLY else "There is"
