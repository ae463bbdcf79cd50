"""Recall and precision of boxes at an IoU. Knows labelled boxes only."""

from collections.abc import Sequence
from dataclasses import dataclass

from sightline_eval.bootstrap import Estimate, estimate

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """A name and its box: x1, y1, x2, y2 in any one unit."""

    label: str
    box: Box


@dataclass(frozen=True, slots=True)
class Matches:
    """One image: boxes that were found, boxes that are there, and how many of them agree."""

    n_matched: int
    n_found: int
    n_true: int


@dataclass(frozen=True, slots=True)
class DetectionScores:
    """Recall and precision over all boxes, with bootstrap intervals over images."""

    recall: Estimate
    precision: Estimate
    n_found: int
    n_true: int


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (_area(a) + _area(b) - shared)


def match(
    found: Sequence[LabelledBox], true: Sequence[LabelledBox], *, threshold: float = 0.5
) -> Matches:
    """Pairs boxes of equal label and IoU >= threshold, one to one, the surest found box first.

    Args:
        found: the detector's boxes, best score first.
        true: the annotated boxes.
        threshold: least IoU of a match.
    """
    free = list(true)
    for box in found:
        candidates = [other for other in free if other.label == box.label]
        best = max(candidates, key=lambda other: iou(box.box, other.box), default=None)
        if best is not None and iou(box.box, best.box) >= threshold:
            free.remove(best)
    return Matches(len(true) - len(free), len(found), len(true))


def summarise(images: Sequence[Matches], *, resamples: int = 500) -> DetectionScores:
    """Adds up the matches of all images."""
    return DetectionScores(
        recall=estimate(images, _recall, resamples=resamples),
        precision=estimate(images, _precision, resamples=resamples),
        n_found=sum(image.n_found for image in images),
        n_true=sum(image.n_true for image in images),
    )


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _recall(images: Sequence[Matches]) -> float | None:
    true = sum(image.n_true for image in images)
    return sum(image.n_matched for image in images) / true if true else None


def _precision(images: Sequence[Matches]) -> float | None:
    found = sum(image.n_found for image in images)
    return sum(image.n_matched for image in images) / found if found else None
