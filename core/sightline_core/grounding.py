"""Grounding feedback as text (SVP), the phrases to ask for, and suppression. Knows no detector."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sightline_core.entities import Vocabulary, find_spans

Box = tuple[float, float, float, float]
BoxFormat = Literal["xyxy", "cxcywh"]
BOX_FORMATS: tuple[BoxFormat, ...] = get_args(BoxFormat)


def format_context(
    detections: Sequence[tuple[str, Box]], box_format: BoxFormat = "xyxy", *, bullet: str = ""
) -> str:
    """The detections as a prompt's context: one ``label [x1, y1, x2, y2]`` a line (SVP, App. F).

    Boxes are x1, y1, x2, y2 as fractions of the image; they are clamped to [0, 1] and written
    with 2 decimals, as given or as centre and size ("cxcywh", Grounding DINO's own form). A label
    stays on its line: whitespace in it is collapsed. ``bullet`` opens each line ("- ").

    Raises:
        ValueError: a coordinate is not finite, or the format is unknown.
    """
    if box_format not in BOX_FORMATS:
        raise ValueError(f"box_format is {box_format!r}: choose one of {', '.join(BOX_FORMATS)}")
    return "\n".join(bullet + _line(label, box, box_format) for label, box in detections)


def _line(label: str, box: Box, box_format: BoxFormat) -> str:
    if not all(map(math.isfinite, box)):
        raise ValueError(f"the box of {label!r} is {box}: give finite fractions of the image")
    x1, y1, x2, y2 = (min(1.0, max(0.0, coordinate)) for coordinate in box)
    if box_format == "cxcywh":
        x1, y1, x2, y2 = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
    return f"{' '.join(label.split())} [{x1:.2f}, {y1:.2f}, {x2:.2f}, {y2:.2f}]"


def phrases_in(text: str, vocabulary: Vocabulary) -> tuple[str, ...]:
    """The object phrases that a text names, lower-case and singular, once each, in order."""
    singulars = (vocabulary.singular(span.text) for span in find_spans(text, vocabulary))
    return tuple(dict.fromkeys(phrase for phrase in singulars if phrase is not None))


def non_maximum_suppression(boxes: ArrayLike, scores: ArrayLike, iou: float) -> NDArray[np.intp]:
    """The boxes that survive class-agnostic suppression, as indices, best score first.

    Args:
        boxes: [n, 4] as x1, y1, x2, y2 in any one unit.
        scores: [n]; equal scores keep their order.
        iou: of two boxes that overlap by more than this intersection over union in [0, 1], the
            better is kept.

    Raises:
        ValueError: the shapes do not fit, or ``iou`` is out of range.
    """
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(corners),):
        raise ValueError(f"scores has shape {values.shape} for {len(corners)} boxes: one per box")
    if not 0 <= iou <= 1:
        raise ValueError(f"iou is {iou!r}: give a number from 0 to 1")
    order = np.argsort(-values, kind="stable")
    kept: list[int] = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        order = rest[_overlaps(corners[best], corners[rest]) <= iou]
    return np.array(kept, dtype=np.intp)


def _overlaps(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of one box with each of the others; 0 where neither has an area."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    union = _areas(box[None]) + _areas(others) - shared
    overlaps: NDArray[np.float64] = np.divide(
        shared, union, out=np.zeros_like(shared), where=union > 0
    )
    return overlaps


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
    return areas
