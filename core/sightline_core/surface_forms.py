"""Writes entities/forms.txt, the shipped vocabulary, from the curated lists. Knows inflect.

Run ``python -m sightline_core.surface_forms`` after a change of the lists.
"""

from importlib.resources import files
from pathlib import Path

from sightline_core.inflection import plural
from sightline_core.vocabulary_file import Name, parse, render

_SOURCES = (
    "coco.txt",
    "not_objects.txt",
    "lvis.txt",
)  # of two meanings of a phrase the first stands
_TARGET = "forms.txt"


def rendered() -> str:
    """The text of entities/forms.txt: every name of the lists with its plural."""
    folder = files("sightline_core") / "entities"
    entries = [
        (entity, tuple(map(_complete, names)))
        for source in _SOURCES
        for entity, names in parse((folder / source).read_text(encoding="utf-8"))
    ]
    return "# Written by sightline_core.surface_forms; see README.md.\n" + render(entries)


def _complete(name: Name) -> Name:
    return name if name.plural is not None else Name(name.singular, plural(name.singular))


def main() -> None:
    """Writes the file in place."""
    target = Path(str(files("sightline_core") / "entities" / _TARGET))
    target.write_text(rendered(), encoding="utf-8")


if __name__ == "__main__":
    main()
