"""EmojiWorld scenes.

Which objects, where, and their picture. Knows Pillow; knows nothing of captions or models.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from sightline_world.categories import NAMES, SCENE_TYPES, SceneType, prior, scene_type
from sightline_world.splits import Split, stream
from sightline_world.sprites import sprite

SIZE = 192  # pixels per side of a scene
MAX_OVERLAP = 0.15  # of the smaller of two boxes
_SIDE = (0.22, 0.44)  # longest side of a sprite before rotation, of the scene's side
_MAX_ANGLE = 12.0  # degrees
_BRIGHTNESS = (0.8, 1.15)
_COUNTS = {2: 0.15, 3: 0.25, 4: 0.25, 5: 0.20, 6: 0.15}
_OFF_PRIOR = 0.08  # share of the object distribution that ignores the scene type
_ATTEMPTS = 25  # placements tried before an object is left out

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object: its category name and its box (x1, y1, x2, y2) in pixels, half-open."""

    name: str
    box: Box


@dataclass(frozen=True, slots=True)
class Layout:
    """What a scene holds: its type and its objects in drawing order. No category occurs twice."""

    kind: str
    objects: tuple[SceneObject, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The categories present, in drawing order."""
        return tuple(thing.name for thing in self.objects)

    def box(self, name: str) -> Box | None:
        """The box of ``name``, or None where it is not in the scene."""
        return next((thing.box for thing in self.objects if thing.name == name), None)


@dataclass(frozen=True, slots=True)
class Scene:
    """A drawn scene: RGB image of 192 x 192 pixels, and its layout."""

    split: Split
    index: int
    layout: Layout
    image: Image.Image = field(repr=False, compare=False)


def scene(split: Split, index: int, *, seed: int = 0) -> Scene:
    """Scene ``index`` of ``split``: always the same one, whatever was made before it."""
    rng = stream(split, index, purpose="scene", seed=seed)
    kind = SCENE_TYPES[int(rng.integers(len(SCENE_TYPES)))]
    canvas = _background(kind, rng)
    objects: list[SceneObject] = []
    for name in _draw_names(kind, rng):
        placed = _place(canvas, name, objects, rng)
        if placed is not None:
            objects.append(placed)
    return Scene(split, index, Layout(kind.name, tuple(objects)), canvas)


def scenes(split: Split, count: int, *, start: int = 0, seed: int = 0) -> Iterator[Scene]:
    """Scenes ``start`` to ``start + count - 1`` of ``split``, drawn one by one."""
    return (scene(split, index, seed=seed) for index in range(start, start + count))


def absent(layout: Layout, rng: np.random.Generator, *, hard: bool = True) -> str:
    """A category that is not in the scene.

    ``hard`` draws by the scene type's own prior, so that the scene makes the object likely;
    otherwise every absent category is as likely. A scene that already holds every object of its
    prior has no hard negative left and falls back on the uniform draw.
    """
    weights = absent_weights(layout, hard=hard)
    return NAMES[int(rng.choice(len(NAMES), p=weights))]


def absent_weights(layout: Layout, *, hard: bool = True) -> npt.NDArray[np.float64]:
    """The distribution that ``absent`` draws from, shape (67,), in the order of ``NAMES``."""
    missing = np.array([name not in layout.names for name in NAMES], dtype=np.float64)
    weights = prior(scene_type(layout.kind)) * missing if hard else missing
    if weights.sum() == 0.0:
        weights = missing
    return np.asarray(weights / weights.sum())


def _draw_names(kind: SceneType, rng: np.random.Generator) -> list[str]:
    count = int(rng.choice(list(_COUNTS), p=list(_COUNTS.values())))
    weights = (1 - _OFF_PRIOR) * prior(kind) + _OFF_PRIOR / len(NAMES)
    return [NAMES[i] for i in rng.choice(len(NAMES), count, replace=False, p=weights)]


def _background(kind: SceneType, rng: np.random.Generator) -> Image.Image:
    """Sky above ground, shaded and tinted, with translucent rectangles and noise."""
    horizon = int(SIZE * rng.uniform(0.3, 0.65))
    sky, ground = (np.array(c) + rng.normal(0, 18, 3) for c in (kind.sky, kind.ground))
    height = np.arange(SIZE)[:, None] / SIZE
    rows = np.where(np.arange(SIZE)[:, None] < horizon, sky * (1 - 0.25 * height), 0.0)
    rows += np.where(np.arange(SIZE)[:, None] >= horizon, ground * (0.8 + 0.3 * height), 0.0)
    pixels = np.repeat(rows[:, None, :], SIZE, axis=1).astype(np.float32)
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.integers(0, SIZE - 16, 2)
        width, depth = rng.integers(8, SIZE // 3, 2)
        patch = pixels[y : y + depth, x : x + width]
        patch *= 0.5
        patch += (0.5 * rng.uniform(0, 255, 3)).astype(np.float32)
    pixels += _noise(rng) * np.float32(rng.uniform(0.2, 1.2))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _noise(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    blobs = Image.fromarray(rng.standard_normal((SIZE // 12, SIZE // 12), dtype=np.float32) * 14)
    coarse = np.asarray(blobs.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    fine = rng.standard_normal((SIZE, SIZE), dtype=np.float32) * 7
    return (coarse + fine)[:, :, None]


def _place(
    canvas: Image.Image, name: str, others: Collection[SceneObject], rng: np.random.Generator
) -> SceneObject | None:
    """Pastes a varied sprite where it overlaps the others little; None where no place was found."""
    picture = _varied(name, rng)
    width, height = picture.size
    for _ in range(_ATTEMPTS):
        x = int(rng.integers(0, SIZE - width + 1))
        y = int(rng.integers(0, SIZE - height + 1))
        box = (x, y, x + width, y + height)
        if all(overlap(box, other.box) <= MAX_OVERLAP for other in others):
            canvas.paste(picture, (x, y), picture)
            return SceneObject(name, box)
    return None


def _varied(name: str, rng: np.random.Generator) -> Image.Image:
    picture = sprite(name)
    longest = rng.uniform(*_SIDE) * SIZE
    scale = longest / max(picture.size)
    size = (max(4, round(picture.width * scale)), max(4, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    angle = rng.uniform(-_MAX_ANGLE, _MAX_ANGLE)
    picture = picture.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    picture = picture.crop(picture.getbbox())
    alpha = picture.getchannel("A")
    picture = ImageEnhance.Brightness(picture).enhance(rng.uniform(*_BRIGHTNESS))
    picture.putalpha(alpha)
    return picture


def overlap(a: Box, b: Box) -> float:
    """Intersection of two boxes as a share of the smaller one's area, in [0, 1]."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return width * height / smaller
