"""Pooled and paired separation against hand-computed cases."""

from sightline_eval.separation import ImageScores, separate


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
