"""How well a score tells right from hallucinated, pooled and per image. Knows numbers only."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from sightline_eval.bootstrap import Estimate, estimate
from sightline_eval.roc import auroc, paired_accuracy


@dataclass(frozen=True, slots=True)
class ImageScores:
    """The scores of one image: of what is right about it, and of what is hallucinated."""

    correct: tuple[float, ...]
    hallucinated: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Separation:
    """Both ways to compare, with bootstrap intervals over images.

    Attributes:
        pooled: AUROC over all images at once, as one threshold for every image would see it.
        paired: the share of (correct, hallucinated) pairs of the same image in the right order.
        n_correct, n_hallucinated, n_pairs: how many scores and pairs these rest on.
    """

    pooled: Estimate
    paired: Estimate
    n_correct: int
    n_hallucinated: int
    n_pairs: int


def separate(images: Sequence[ImageScores], *, resamples: int = 500) -> Separation:
    """Measures the separation; a figure is None where a class, or every pair, is missing."""
    return Separation(
        pooled=estimate(images, _pooled, resamples=resamples),
        paired=estimate(images, _paired, resamples=resamples),
        n_correct=sum(len(image.correct) for image in images),
        n_hallucinated=sum(len(image.hallucinated) for image in images),
        n_pairs=sum(len(image.correct) * len(image.hallucinated) for image in images),
    )


def _pooled(images: Sequence[ImageScores]) -> float | None:
    correct = [score for image in images for score in image.correct]
    hallucinated = [score for image in images for score in image.hallucinated]
    return auroc(correct, hallucinated) if correct and hallucinated else None


def _paired(images: Sequence[ImageScores]) -> float | None:
    pairs = [pair for image in images for pair in product(image.correct, image.hallucinated)]
    return paired_accuracy(*zip(*pairs, strict=True)) if pairs else None
