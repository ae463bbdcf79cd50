import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_core.csr import combine, image_reward

LANGUAGE = (-1.0, -2.0, -3.0, -4.0, -5.0)
IMAGE = (30.0, 20.0, 25.0, 10.0, 15.0)


def released_code_values(language, image, weight):
    """CSR's released reading: positions / n in descending order, lower is better, ties by order."""

    def positions(scores):
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        return [(order.index(i) + 1) / len(scores) for i in range(len(scores))]

    pairs = zip(positions(language), positions(image), strict=True)
    return [(1 - weight) * t + weight * i for t, i in pairs]


def test_the_released_codes_values_and_ours_are_one_order():
    values = released_code_values(LANGUAGE, IMAGE, 0.9)
    assert values == pytest.approx([0.20, 0.58, 0.42, 0.98, 0.82])
    ours = combine(LANGUAGE, IMAGE)
    assert ours == pytest.approx([1.0, 0.525, 0.725, 0.025, 0.225])
    assert ours.index(max(ours)) == 0
    assert ours.index(min(ours)) == 3


numbers = st.lists(st.floats(-100, 100), min_size=2, max_size=8, unique=True)


@given(st.data(), st.floats(0, 1))
def test_without_ties_ours_is_a_falling_line_of_the_released_value(data, weight):
    language = data.draw(numbers)
    n = len(language)
    image = data.draw(st.lists(st.floats(-100, 100), min_size=n, max_size=n, unique=True))
    theirs = released_code_values(language, image, weight)
    expected = [1 - (value * n - 1) / (n - 1) for value in theirs]
    assert combine(language, image, weight=weight) == pytest.approx(expected, abs=1e-9)


def test_ties_share_their_mean_rank():
    assert combine([0, 0, 0], [3, 1, 1], weight=1.0) == pytest.approx([1.0, 0.25, 0.25])
    assert combine([2, 2, 1, 0], [0, 0, 0, 0], weight=0.0) == pytest.approx(
        [5 / 6, 5 / 6, 1 / 3, 0]
    )
    assert combine([7, 7], [1, 1]) == (0.5, 0.5)


def test_an_only_child_is_neutral():
    assert combine([-1.0], [30.0]) == (0.5,)
    assert combine([-1.0], [30.0], mode="minmax") == (0.5,)
    assert combine([-1.0], [30.0], mode="raw") == pytest.approx([26.9])
    assert combine([], []) == ()


def test_minmax_and_raw_by_hand():
    assert combine([-1, -3, -2], [10, 30, 20], weight=0.9, mode="minmax") == pytest.approx(
        [0.1, 0.9, 0.5]
    )
    assert combine([-1, -3], [10, 30], weight=0.75, mode="raw") == pytest.approx([7.25, 21.75])


@given(st.sampled_from(["rank", "minmax", "raw"]), st.floats(0.1, 0.9))
def test_higher_is_better_on_both_sides(mode, weight):
    better_image = combine([-1, -1], [20, 10], weight=weight, mode=mode)
    better_language = combine([-1, -2], [10, 10], weight=weight, mode=mode)
    assert better_image[0] > better_image[1]
    assert better_language[0] > better_language[1]


def test_weight_is_the_images_share():
    assert combine(LANGUAGE, IMAGE, weight=1.0) == combine(IMAGE, IMAGE)
    assert combine(LANGUAGE, IMAGE, weight=0.0) == combine(LANGUAGE, LANGUAGE)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1.0], [1.0, 2.0]), {}, "1 language_scores for 2 image_scores"),
        (([1.0], [math.nan]), {}, "image_scores holds a number that is not finite"),
        (([-math.inf], [1.0]), {}, "language_scores holds a number that is not finite"),
        (([1.0], [1.0]), {"weight": 1.1}, "weight is 1.1"),
        (([1.0], [1.0]), {"weight": math.nan}, "weight is nan"),
        (([1.0, 2.0], [1.0, 2.0]), {"mode": "code"}, "mode is 'code': choose one of rank, minmax"),
        (([], []), {"mode": "code"}, "mode is 'code'"),
    ],
)
def test_what_cannot_be_combined_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        combine(*arguments, **options)


def test_the_image_reward_is_never_negative():
    assert image_reward(0.31) == pytest.approx(31.0)
    assert image_reward(-0.2) == 0.0
