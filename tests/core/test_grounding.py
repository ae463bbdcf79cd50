import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_core.entities import load_vocabulary
from sightline_core.grounding import format_context, non_maximum_suppression, phrases_in

VOCABULARY = load_vocabulary()


def test_a_detection_is_a_line_of_its_label_and_its_corners():
    detections = [("dog", (0.12, 0.3, 0.554, 0.9)), ("hot dog", (-0.2, 0.0, 1.3, 0.005))]
    assert format_context(detections) == (
        "dog [0.12, 0.30, 0.55, 0.90]\nhot dog [0.00, 0.00, 1.00, 0.01]"
    )
    assert format_context([]) == ""


def test_centre_and_size_are_those_of_the_clamped_box():
    detections = [("laptop", (0.4, 0.5, 0.56, 0.59)), ("tv", (-1.0, 0.0, 0.5, 1.0))]
    assert format_context(detections, "cxcywh") == (
        "laptop [0.48, 0.54, 0.16, 0.09]\ntv [0.25, 0.50, 0.50, 1.00]"
    )


def test_a_bullet_opens_every_line():
    detections = [("dog", (0.0, 0.0, 0.5, 1.0)), ("hot dog", (0.25, 0.5, 0.5, 1.0))]
    assert format_context(detections, bullet="- ") == (
        "- dog [0.00, 0.00, 0.50, 1.00]\n- hot dog [0.25, 0.50, 0.50, 1.00]"
    )


def test_a_label_keeps_to_its_line_and_no_zero_is_negative():
    assert (
        format_context([("a\n dog", (-0.0, -1e-9, 0.5, 1.0))]) == "a dog [0.00, 0.00, 0.50, 1.00]"
    )


def test_a_context_that_would_be_wrong_is_refused():
    with pytest.raises(ValueError, match="the box of 'dog'"):
        format_context([("dog", (0.0, math.nan, 1.0, 1.0))])
    with pytest.raises(ValueError, match="choose one of xyxy, cxcywh"):
        format_context([], "xywh")


def test_phrases_are_singular_and_named_once_in_order():
    text = (
        "Two Puppies and a mobile phone, puppy, cell\nphones near the knives; a dog-friendly Dog."
    )
    assert phrases_in(text, VOCABULARY) == ("puppy", "mobile phone", "cell phone", "knife", "dog")
    assert phrases_in("Nothing here.", VOCABULARY) == ()


def test_of_overlapping_boxes_the_best_stays():
    boxes = [(0, 0, 10, 10), (0, 0, 10, 8), (20, 20, 30, 30), (0, 0, 10, 7)]
    assert non_maximum_suppression(boxes, [0.5, 0.9, 0.1, 0.6], 0.7).tolist() == [1, 2]
    assert non_maximum_suppression(boxes, [0.5, 0.9, 0.1, 0.6], 0.85).tolist() == [1, 0, 2]
    assert non_maximum_suppression(boxes, [0.5, 0.9, 0.1, 0.6], 1.0).tolist() == [1, 3, 0, 2]


def test_an_overlap_of_exactly_the_threshold_is_kept():
    boxes = [(0, 0, 2, 1), (0, 0, 1, 1)]
    assert non_maximum_suppression(boxes, [0.9, 0.8], 0.5).tolist() == [0, 1]
    assert non_maximum_suppression(boxes, [0.9, 0.8], 0.49).tolist() == [0]


def test_equal_scores_keep_their_order_and_boxes_without_area_suppress_nothing():
    boxes = [(1, 1, 1, 1), (1, 1, 1, 1), (0, 0, 3, 3), (3, 3, 0, 0)]
    assert non_maximum_suppression(boxes, [0.5] * 4, 0.0).tolist() == [0, 1, 2, 3]
    assert non_maximum_suppression([], [], 0.5).tolist() == []


def slow_iou(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return shared / (sum(areas) - shared) if sum(areas) - shared > 0 else 0.0


@settings(max_examples=200)
@given(st.data(), st.sampled_from([0.0, 0.3, 0.5, 0.7]))
def test_suppression_agrees_with_the_slow_reference(data, iou):
    place = st.integers(0, 8)
    span = st.tuples(place, place).map(sorted)
    boxes = [
        (x[0], y[0], x[1], y[1]) for x, y in data.draw(st.lists(st.tuples(span, span), max_size=12))
    ]
    scores = data.draw(
        st.lists(st.integers(0, 5).map(float), min_size=len(boxes), max_size=len(boxes))
    )
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(slow_iou(boxes[index], boxes[other]) <= iou for other in kept):
            kept.append(index)
    result = non_maximum_suppression(boxes, scores, iou)
    assert result.dtype == np.intp
    assert result.tolist() == kept


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="for 1 boxes"):
        non_maximum_suppression([(0, 0, 1, 1)], [0.1, 0.2], 0.5)
    with pytest.raises(ValueError, match="iou is 1.5"):
        non_maximum_suppression([], [], 1.5)
