"""Pooled and paired separation against hand-computed cases."""

import pytest

from sightline_eval.separation import ImageScores, compare, pooled_auroc, separate


def test_a_shift_between_images_hurts_pooled_and_leaves_paired_perfect():
    images = [ImageScores((1.0,), (0.0,)), ImageScores((11.0,), (10.0,))]
    figures = separate(images)
    assert figures.pooled.value == 3 / 4  # 1 loses to 10, every other pair is in order
    assert figures.paired.value == 1.0
    assert (figures.n_correct, figures.n_hallucinated, figures.n_pairs) == (2, 2, 2)


def test_an_image_without_hallucinations_counts_only_in_the_pooled_figure():
    images = [ImageScores((3.0, 1.0), (2.0,)), ImageScores((0.0,), ())]
    figures = separate(images)
    assert figures.pooled.value == 1 / 3
    assert figures.paired.value == 1 / 2


def test_a_missing_class_leaves_the_figures_open():
    figures = separate([ImageScores((1.0,), ())])
    assert figures.pooled.value is None
    assert figures.paired.value is None


def test_scores_are_compared_image_by_image():
    images = [ImageScores((n + 2.0,), (n + 0.0,)) for n in range(8)]
    shuffled = images[::-1]
    same = compare(images, shuffled, pooled_auroc)
    assert same.value == 0.0
    worse = [ImageScores(image.hallucinated, image.correct) for image in images]
    gap = compare(images, worse, pooled_auroc)
    assert gap.value == pytest.approx(separate(images).pooled.value * 2 - 1)
    assert gap.low > 0


def test_a_difference_without_a_class_is_open():
    only = [ImageScores((1.0,), ())]
    assert compare(only, only, pooled_auroc).value is None
