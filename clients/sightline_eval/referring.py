"""Referring expressions on the world: objects and ways to name them. Knows no model.

As in RefCOCO, a model sees the picture with one object boxed in red and describes it in a few
words; `caption_metrics.score_captions` holds what it says against the references.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image, ImageDraw

from sightline_world.captions import place
from sightline_world.categories import category
from sightline_world.scenes import Box, Scene, SceneObject

DESCRIBE_REGION = "Provide a short description for this region."
_INK, _WIDTH = "red", 2


@dataclass(frozen=True, slots=True)
class Region:
    """One object to describe.

    Attributes:
        id: unique within a set; stands for the image in captions and references.
        scene: index of the scene.
        name: the object's category, which occurs once in the scene.
        box: its place in pixels, half-open.
        references: what people might say.
    """

    id: int
    scene: int
    name: str
    box: Box
    references: tuple[str, ...]


def build_regions(scenes: Iterable[Scene]) -> tuple[Region, ...]:
    """Every object of every scene, scene by scene in drawing order."""
    things = ((scene.index, thing) for scene in scenes for thing in scene.layout.objects)
    return tuple(
        Region(number, scene, thing.name, thing.box, expressions(thing))
        for number, (scene, thing) in enumerate(things)
    )


def expressions(thing: SceneObject) -> tuple[str, ...]:
    """Four ways to say which object is meant: "the dog on the left", ..., "left dog"."""
    where = place(thing.box)
    side = where.rpartition(" ")[2]
    return (
        f"the {thing.name} {where}",
        f"{category(thing.name).noun_phrase} {where}",
        f"{thing.name} {where}",
        f"{side} {thing.name}",
    )


def box_in_red(image: Image.Image, box: Box) -> Image.Image:
    """A copy of the picture with the box's outline, within the box, in red."""
    marked = image.convert("RGB")
    x1, y1, x2, y2 = box
    ImageDraw.Draw(marked).rectangle((x1, y1, x2 - 1, y2 - 1), outline=_INK, width=_WIDTH)
    return marked
