"""Ground truth from COCO-format files: what is in which image. Reads JSON; knows no models."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline_eval.lexicon import Lexicon
from sightline_eval.mentions import find_mentions


@dataclass(frozen=True, slots=True)
class Annotations:
    """What is in the images of a data set.

    Attributes:
        objects: image id -> names of the objects that are annotated there.
        file_names: image id -> file name, relative to the image folder.
        categories: every category that the data set annotates.
    """

    objects: Mapping[int, frozenset[str]]
    file_names: Mapping[int, str]
    categories: tuple[str, ...]

    def truth(
        self, lexicon: Lexicon, references: Mapping[int, Iterable[str]] | None = None
    ) -> dict[int, frozenset[str]]:
        """Image id -> objects, in the lexicon's names.

        Args:
            lexicon: maps a category to its object; an unknown category stands for itself.
            references: image id -> reference captions, whose objects count as present too (CHAIR).
        """
        named = references or {}
        return {
            image: frozenset(lexicon.objects.get(name, name) for name in map(str.lower, names))
            | frozenset(
                mention.object
                for text in named.get(image, ())
                for mention in find_mentions(text, lexicon)
            )
            for image, names in self.objects.items()
        }


def load_instances(path: Path) -> Annotations:
    """Reads a COCO `instances.json`: its `images`, `annotations` and `categories`.

    Raises:
        ValueError: the file is no JSON or lacks one of the three lists.
    """
    data = _load(path, ("images", "annotations", "categories"))
    names = {category["id"]: str(category["name"]) for category in data["categories"]}
    objects: dict[int, set[str]] = {image["id"]: set() for image in data["images"]}
    for annotation in data["annotations"]:
        objects.setdefault(annotation["image_id"], set()).add(names[annotation["category_id"]])
    return Annotations(
        {image: frozenset(present) for image, present in objects.items()},
        {image["id"]: str(image["file_name"]) for image in data["images"]},
        tuple(names.values()),
    )


def load_references(path: Path) -> dict[int, tuple[str, ...]]:
    """Reads a COCO `captions.json`: image id -> its reference captions.

    Raises:
        ValueError: the file is no JSON or has no `annotations`.
    """
    references: dict[int, tuple[str, ...]] = {}
    for annotation in _load(path, ("annotations",))["annotations"]:
        image = annotation["image_id"]
        references[image] = (*references.get(image, ()), str(annotation["caption"]))
    return references


def load_file_names(path: Path) -> dict[int, str]:
    """Reads the `images` of any COCO-format file: image id -> file name.

    Raises:
        ValueError: the file is no JSON or has no `images`.
    """
    return {it["id"]: str(it["file_name"]) for it in _load(path, ("images",))["images"]}


def _load(path: Path, keys: Iterable[str]) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    missing = [key for key in keys if not isinstance(data, dict) or key not in data]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}: give a file in COCO format")
    return dict(data)
