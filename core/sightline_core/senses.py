"""Tells a colour from the fruit of the same name ("an orange cat"). Knows no vocabulary."""

from collections.abc import Sequence

from sightline_core.words import Word, joined

_FRUIT_AND_COLOUR = frozenset({"apricot", "lime", "orange", "peach"})
_COLOURS = frozenset(
    {
        *("beige", "black", "blue", "brown", "cream", "gold", "golden", "gray", "green", "grey"),
        *("maroon", "orange", "pink", "purple", "red", "silver", "tan", "teal", "white", "yellow"),
    }
)
_BEFORE_A_COLOUR = frozenset(
    {
        *("are", "be", "bright", "colored", "coloured", "dark", "deep", "is", "light", "neon"),
        *("painted", "pale", "vibrant", "was", "were"),
    }
)
_AFTER_A_FRUIT = frozenset(
    {
        *("a", "above", "along", "also", "among", "an", "and", "appears", "are", "as", "at"),
        *("behind", "below", "beneath", "beside", "between", "but", "by", "can", "cut", "for"),
        *("from", "half", "halves", "has", "hanging", "in", "inside", "into", "is", "left"),
        *("lies", "lying", "near", "next", "of", "on", "onto", "or", "out", "over", "peel"),
        *("placed", "resting", "rests", "right", "s", "segment", "segments", "sits", "sitting"),
        *("slice", "sliced", "slices", "that", "the", "there", "to", "under", "visible", "was"),
        *("wedge", "wedges", "were", "which", "while", "with"),
    }
)


def is_colour(text: str, parts: Sequence[Word], index: int) -> bool:
    """Whether word ``index`` is such a name and is used as a colour.

    It is one after a copula or a shade ("is orange", "bright orange"), before another colour
    ("orange and white"), and before any word that does not usually follow a fruit's name.
    """
    if parts[index].key not in _FRUIT_AND_COLOUR:
        return False
    if _key(text, parts, index, -1) in _BEFORE_A_COLOUR:
        return True
    following = _key(text, parts, index, 1)
    if following in {"and", "or"}:
        return _key(text, parts, index, 2) in _COLOURS
    return following is not None and following not in _AFTER_A_FRUIT


def _key(text: str, parts: Sequence[Word], index: int, step: int) -> str | None:
    """The word ``step`` places on if only single gaps are between, else None."""
    low, high = min(index, index + step), max(index, index + step)
    if low < 0 or high >= len(parts):
        return None
    unbroken = all(joined(text, parts[i], parts[i + 1]) for i in range(low, high))
    return parts[index + step].key if unbroken else None
