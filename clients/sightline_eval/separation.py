"""How well a score tells right from hallucinated, pooled and per image. Knows numbers only."""

from collections.abc import Callable, Sequence
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
        pooled=estimate(images, pooled_auroc, resamples=resamples),
        paired=estimate(images, paired_accuracy_of, resamples=resamples),
        n_correct=sum(len(image.correct) for image in images),
        n_hallucinated=sum(len(image.hallucinated) for image in images),
        n_pairs=sum(len(image.correct) * len(image.hallucinated) for image in images),
    )


def compare(
    one: Sequence[ImageScores],
    other: Sequence[ImageScores],
    statistic: Callable[[Sequence[ImageScores]], float | None],
    *,
    resamples: int = 500,
) -> Estimate:
    """How much higher `statistic` is for one score than for another of the same images.

    The interval resamples images with both scores, so what they share cancels out: it may lie
    clear of 0 where the two separate intervals overlap.
    """

    def difference(pairs: Sequence[tuple[ImageScores, ImageScores]]) -> float | None:
        first = statistic([pair[0] for pair in pairs])
        second = statistic([pair[1] for pair in pairs])
        return None if first is None or second is None else first - second

    return estimate(list(zip(one, other, strict=True)), difference, resamples=resamples)


def pooled_auroc(images: Sequence[ImageScores]) -> float | None:
    """The AUROC over all images at once, None where a class is missing."""
    correct = [score for image in images for score in image.correct]
    hallucinated = [score for image in images for score in image.hallucinated]
    return auroc(correct, hallucinated) if correct and hallucinated else None


def paired_accuracy_of(images: Sequence[ImageScores]) -> float | None:
    """The share of pairs of one image that are in order, None where there is no pair."""
    pairs = [pair for image in images for pair in product(image.correct, image.hallucinated)]
    return paired_accuracy(*zip(*pairs, strict=True)) if pairs else None
