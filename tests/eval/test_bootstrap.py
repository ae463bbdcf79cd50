"""Intervals by resampling groups."""

import random

from sightline_eval.bootstrap import Estimate, estimate


def mean(values):
    return sum(values) / len(values)


def test_the_interval_of_a_mean_agrees_with_the_normal_one():
    rng = random.Random(0)
    values = [rng.gauss(5, 2) for _ in range(400)]
    figure = estimate(values, mean, resamples=2000)
    assert figure.value == mean(values)
    half = 1.96 * 2 / 400**0.5
    assert abs(figure.low - (figure.value - half)) < 0.15 * half
    assert abs(figure.high - (figure.value + half)) < 0.15 * half


def test_the_same_seed_gives_the_same_interval():
    values = [1.0, 2.0, 4.0, 8.0]
    assert estimate(values, mean, seed=3) == estimate(values, mean, seed=3)
    assert estimate(values, mean, seed=3) != estimate(values, mean, seed=4)


def test_groups_are_kept_whole():
    groups = [(1.0,) * 50, (0.0,) * 50]
    figure = estimate(groups, lambda sample: mean([x for group in sample for x in group]))
    assert (figure.low, figure.high) == (0.0, 1.0)


def test_what_cannot_be_measured_is_none_and_undefined_resamples_are_left_out():
    assert estimate([], mean) == Estimate(None, None, None)
    assert estimate([1.0], lambda sample: None) == Estimate(None, None, None)
    both = estimate([0.0, 1.0], lambda s: None if len(set(s)) == 1 else 0.5)
    assert both == Estimate(0.5, 0.5, 0.5)
