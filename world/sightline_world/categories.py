"""The categories, scene types and colours of EmojiWorld.

Pure data: knows nothing of pixels, captions or models.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Category:
    """One COCO category: its COCO 2017 id, name, super-category and English plural."""

    coco_id: int
    name: str
    supercategory: str
    plural: str

    @property
    def noun_phrase(self) -> str:
        """The name, with an article where it takes one: "a dog", "an umbrella", "skis"."""
        if self.name == self.plural and self.name != "sheep":
            return self.name
        return f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"


_IRREGULAR_PLURALS = {
    "person": "people",
    "bus": "buses",
    "sheep": "sheep",
    "skis": "skis",
    "mouse": "mice",
    "knife": "knives",
    "scissors": "scissors",
    "sandwich": "sandwiches",
    "couch": "couches",
    "toothbrush": "toothbrushes",
    "wine glass": "wine glasses",
    "teddy bear": "teddy bears",
    "broccoli": "broccoli",
}

_COCO: dict[str, dict[int, str]] = {
    "person": {1: "person"},
    "vehicle": {
        2: "bicycle",
        3: "car",
        4: "motorcycle",
        5: "airplane",
        6: "bus",
        7: "train",
        8: "truck",
        9: "boat",
    },
    "outdoor": {10: "traffic light", 13: "stop sign"},
    "animal": {
        16: "bird",
        17: "cat",
        18: "dog",
        19: "horse",
        20: "sheep",
        21: "cow",
        22: "elephant",
        23: "bear",
        24: "zebra",
        25: "giraffe",
    },
    "accessory": {27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase"},
    "sports": {
        34: "frisbee",
        35: "skis",
        36: "snowboard",
        37: "sports ball",
        38: "kite",
        41: "skateboard",
        42: "surfboard",
        43: "tennis racket",
    },
    "kitchen": {
        44: "bottle",
        46: "wine glass",
        47: "cup",
        48: "fork",
        49: "knife",
        50: "spoon",
        51: "bowl",
    },
    "food": {
        52: "banana",
        53: "apple",
        54: "sandwich",
        55: "orange",
        56: "broccoli",
        57: "carrot",
        58: "hot dog",
        59: "pizza",
        60: "donut",
        61: "cake",
    },
    "furniture": {62: "chair", 63: "couch", 64: "potted plant", 65: "bed", 70: "toilet"},
    "electronic": {72: "tv", 73: "laptop", 74: "mouse", 76: "keyboard", 77: "cell phone"},
    "indoor": {
        84: "book",
        85: "clock",
        86: "vase",
        87: "scissors",
        88: "teddy bear",
        90: "toothbrush",
    },
}


def _category(coco_id: int, name: str, supercategory: str) -> Category:
    plural = _IRREGULAR_PLURALS.get(name, f"{name}s")
    return Category(coco_id, name, supercategory, plural)


CATEGORIES: tuple[Category, ...] = tuple(
    _category(coco_id, name, supercategory)
    for supercategory, members in _COCO.items()
    for coco_id, name in members.items()
)
NAMES: tuple[str, ...] = tuple(category.name for category in CATEGORIES)
INDEX: MappingProxyType[str, int] = MappingProxyType({name: i for i, name in enumerate(NAMES)})


def category(name: str) -> Category:
    """The category called ``name``; ``ValueError`` when the world has no such category."""
    if name not in INDEX:
        raise ValueError(f"no category {name!r} in EmojiWorld; it has: {', '.join(NAMES)}")
    return CATEGORIES[INDEX[name]]


@dataclass(frozen=True, slots=True)
class SceneType:
    """A kind of place: how likely it makes each category, and the two colours of its background.

    ``habit`` names two objects that usually go together there; it is the pair that a language
    prior is tempted to complete when only one of them is in the picture.
    """

    name: str
    weights: MappingProxyType[str, int]
    sky: Colour
    ground: Colour
    habit: tuple[str, str]

    @property
    def noun_phrase(self) -> str:
        """The name with its indefinite article: "a park", "an office"."""
        return f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"


def _scene_type(
    name: str, weights: str, sky: Colour, ground: Colour, habit: tuple[str, str]
) -> SceneType:
    pairs = (entry.rsplit(" ", 1) for entry in weights.split(", "))
    likely = {noun: int(weight) for noun, weight in pairs}
    assert set(habit) <= set(likely) <= set(NAMES), name
    return SceneType(name, MappingProxyType(likely), sky, ground, habit)


SCENE_TYPES: tuple[SceneType, ...] = (
    _scene_type(
        "kitchen",
        "fork 5, knife 5, spoon 4, bowl 4, cup 4, bottle 3, banana 2, apple 3, orange 2, "
        "broccoli 2, carrot 2, sandwich 1, chair 1, potted plant 1",
        (225, 214, 190),
        (150, 110, 80),
        ("fork", "knife"),
    ),
    _scene_type(
        "restaurant",
        "pizza 5, wine glass 5, fork 4, knife 3, cake 3, donut 2, hot dog 2, sandwich 3, "
        "bottle 3, cup 3, chair 3, person 2, bowl 1",
        (120, 60, 60),
        (70, 45, 40),
        ("pizza", "wine glass"),
    ),
    _scene_type(
        "street",
        "car 5, bus 4, traffic light 5, stop sign 3, truck 3, motorcycle 3, bicycle 3, person 4, "
        "umbrella 2, handbag 2, dog 1",
        (170, 190, 205),
        (95, 95, 100),
        ("car", "traffic light"),
    ),
    _scene_type(
        "park",
        "dog 4, frisbee 3, kite 3, bird 3, bicycle 3, person 4, skateboard 2, sports ball 2, "
        "backpack 1, umbrella 1, cat 1",
        (150, 205, 240),
        (90, 160, 80),
        ("person", "dog"),
    ),
    _scene_type(
        "farm",
        "cow 5, horse 4, sheep 5, dog 2, bird 2, truck 2, person 2, apple 1, cat 1, carrot 1",
        (185, 215, 235),
        (170, 150, 80),
        ("cow", "sheep"),
    ),
    _scene_type(
        "savanna",
        "elephant 5, zebra 5, giraffe 5, bear 2, bird 3, truck 1, person 1",
        (240, 215, 160),
        (200, 160, 90),
        ("elephant", "zebra"),
    ),
    _scene_type(
        "office",
        "laptop 5, keyboard 4, mouse 4, cell phone 3, book 3, cup 3, chair 3, clock 2, "
        "scissors 2, potted plant 2, tie 2",
        (210, 215, 220),
        (120, 125, 135),
        ("laptop", "mouse"),
    ),
    _scene_type(
        "living room",
        "couch 5, tv 5, potted plant 3, vase 2, cat 3, dog 2, book 2, clock 2, teddy bear 2, "
        "chair 2, cell phone 1",
        (230, 200, 170),
        (140, 90, 60),
        ("couch", "tv"),
    ),
    _scene_type(
        "bedroom",
        "bed 5, teddy bear 4, book 3, clock 4, laptop 2, cat 2, cell phone 2, handbag 1, vase 1",
        (200, 190, 225),
        (130, 105, 130),
        ("bed", "teddy bear"),
    ),
    _scene_type(
        "bathroom",
        "toilet 5, toothbrush 5, scissors 3, bottle 2, cup 2, potted plant 1, vase 1, clock 1",
        (190, 230, 230),
        (120, 160, 170),
        ("toilet", "toothbrush"),
    ),
    _scene_type(
        "beach",
        "surfboard 4, umbrella 4, boat 4, person 3, bird 2, kite 2, frisbee 2, dog 1, "
        "sports ball 2",
        (110, 195, 235),
        (240, 220, 165),
        ("surfboard", "umbrella"),
    ),
    _scene_type(
        "airport",
        "airplane 5, suitcase 5, backpack 3, handbag 3, person 3, bus 2, tie 1, cell phone 2, "
        "clock 1",
        (190, 205, 225),
        (130, 130, 130),
        ("airplane", "suitcase"),
    ),
    _scene_type(
        "station",
        "train 5, suitcase 3, backpack 3, person 4, clock 3, umbrella 2, cell phone 1, bicycle 1",
        (150, 150, 165),
        (85, 80, 85),
        ("train", "person"),
    ),
    _scene_type(
        "mountain",
        "skis 5, snowboard 5, person 3, backpack 3, bear 2, dog 1",
        (140, 180, 225),
        (240, 245, 250),
        ("skis", "snowboard"),
    ),
    _scene_type(
        "sports field",
        "tennis racket 4, sports ball 5, person 4, bottle 2, frisbee 2, backpack 2, "
        "skateboard 1, kite 1",
        (140, 200, 235),
        (60, 140, 70),
        ("tennis racket", "sports ball"),
    ),
)
SCENE_NAMES: tuple[str, ...] = tuple(scene.name for scene in SCENE_TYPES)


def scene_type(name: str) -> SceneType:
    """The scene type called ``name``; ``ValueError`` when there is none."""
    if name not in SCENE_NAMES:
        raise ValueError(f"no scene type {name!r}; there are: {', '.join(SCENE_NAMES)}")
    return SCENE_TYPES[SCENE_NAMES.index(name)]


def prior(scene: SceneType) -> npt.NDArray[np.float64]:
    """P(category | scene type), shape (67,), in the order of ``NAMES``; it sums to 1."""
    weights = np.array([scene.weights.get(name, 0) for name in NAMES], dtype=np.float64)
    return np.asarray(weights / weights.sum())
