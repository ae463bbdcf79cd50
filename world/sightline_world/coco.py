"""Writes scenes as COCO does: PNG files, instances.json and captions.json.

Knows the formats; draws nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from sightline_world.captions import faithful
from sightline_world.categories import CATEGORIES, category
from sightline_world.scenes import Scene, SceneObject, scenes
from sightline_world.splits import Split, stream


class ImageRecord(TypedDict):
    """One entry of ``images``."""

    id: int
    file_name: str
    width: int
    height: int


class InstanceRecord(TypedDict):
    """One entry of ``annotations`` in instances.json.

    ``bbox`` is [x, y, width, height] in pixels.
    """

    id: int
    image_id: int
    category_id: int
    bbox: list[int]
    area: int
    iscrowd: int


class CaptionRecord(TypedDict):
    """One entry of ``annotations`` in captions.json."""

    id: int
    image_id: int
    caption: str


def write(
    folder: Path,
    count: int,
    *,
    split: Split = "test",
    seed: int = 0,
    advance: Callable[[], object] = lambda: None,
) -> None:
    """Writes ``count`` scenes of a split into ``folder``.

    Images/*.png, instances.json, captions.json.

    Image ids are 1 to ``count``; boxes are sprite extents and areas are those of the boxes; every
    scene has one faithful caption. ``advance`` is called after each scene.

    Raises ``ValueError`` when ``count`` is not positive, ``OSError`` when writing fails.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[ImageRecord] = []
    instances: list[InstanceRecord] = []
    captions: list[CaptionRecord] = []
    for image_id, one in enumerate(scenes(split, count, seed=seed), start=1):
        images.append(_image(one, image_id))
        one.image.save(folder / images[-1]["file_name"])
        for thing in one.layout.objects:
            instances.append(_instance(thing, image_id, len(instances) + 1))
        text = faithful(one.layout, stream(split, one.index, purpose="caption", seed=seed))
        captions.append({"id": image_id, "image_id": image_id, "caption": text})
        advance()
    info = {
        "description": "EmojiWorld scenes (Sightline)",
        "split": split,
        "seed": seed,
        "licence": "sprites rendered from Noto Color Emoji, Apache-2.0",
    }
    shared = {"info": info, "licenses": [], "images": images}
    _dump(folder / "instances.json", {**shared, "annotations": instances, "categories": _LABELS})
    _dump(folder / "captions.json", {**shared, "annotations": captions})


_LABELS = [{"id": c.coco_id, "name": c.name, "supercategory": c.supercategory} for c in CATEGORIES]


def _image(one: Scene, image_id: int) -> ImageRecord:
    width, height = one.image.size
    name = f"images/{one.split}-{one.index:06d}.png"
    return {"id": image_id, "file_name": name, "width": width, "height": height}


def _instance(thing: SceneObject, image_id: int, instance_id: int) -> InstanceRecord:
    x1, y1, x2, y2 = thing.box
    return {
        "id": instance_id,
        "image_id": image_id,
        "category_id": category(thing.name).coco_id,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": 0,
    }


def _dump(file: Path, content: dict[str, object]) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
