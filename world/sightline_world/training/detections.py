"""What a detector might report of a scene: boxes missed, shifted, made up. Knows no detector."""

from __future__ import annotations

import numpy as np

from sightline_core.grounding import Box
from sightline_world.scenes import SIZE, Layout, absent

_SHIFT = 0.02  # standard deviation of a corner, of the scene's side


def detections(
    layout: Layout, rng: np.random.Generator, *, missed: float = 0.2, invented: float = 0.15
) -> list[tuple[str, Box]]:
    """Names and boxes (fractions of the side), one or more, from left to right.

    A share of the objects between 0 and ``missed`` is left out, corners are shifted a little, and
    with probability ``invented`` an object that the scene makes likely is reported though absent.
    """
    share = rng.uniform(0, missed)
    kept = [thing for thing in layout.objects if rng.random() >= share]
    kept = kept or [layout.objects[int(rng.integers(len(layout.objects)))]]
    found = [(thing.name, _shifted(thing.box, rng)) for thing in kept]
    if rng.random() < invented:
        size = layout.objects[int(rng.integers(len(layout.objects)))].box
        found.append((absent(layout, rng), _elsewhere(size, rng)))
    return sorted(found, key=lambda one: one[1][0] + one[1][2])


def _shifted(box: tuple[int, int, int, int], rng: np.random.Generator) -> Box:
    x1, y1, x2, y2 = np.clip(np.array(box) / SIZE + rng.normal(0, _SHIFT, 4), 0, 1)
    return float(x1), float(y1), float(x2), float(y2)


def _elsewhere(box: tuple[int, int, int, int], rng: np.random.Generator) -> Box:
    width, height = (box[2] - box[0]) / SIZE, (box[3] - box[1]) / SIZE
    x, y = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return float(x), float(y), float(x + width), float(y + height)
