"""Box matching against hand-computed cases."""

import pytest

from sightline_eval.detection import LabelledBox, Matches, iou, match, summarise


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
        ((0, 0, 2, 2), (1, 0, 3, 2), 2 / 6),
        ((0, 0, 1, 1), (1, 0, 2, 1), 0.0),
    ],
)
def test_iou_of_hand_computed_boxes(a, b, expected):
    assert iou(a, b) == pytest.approx(expected)


def test_a_match_needs_label_and_overlap_and_takes_each_box_once():
    true = [LabelledBox("dog", (0, 0, 2, 2)), LabelledBox("cat", (4, 4, 6, 6))]
    found = [
        LabelledBox("dog", (0, 0, 2, 2)),  # right
        LabelledBox("dog", (0, 0, 2, 1.9)),  # the dog is taken
        LabelledBox("cat", (5.5, 4, 7.5, 6)),  # too far off
        LabelledBox("bus", (4, 4, 6, 6)),  # wrong name
    ]
    assert match(found, true) == Matches(n_matched=1, n_found=4, n_true=2)


def test_recall_and_precision_add_up_over_images():
    scores = summarise([Matches(1, 4, 2), Matches(3, 3, 3)])
    assert scores.recall.value == 4 / 5
    assert scores.precision.value == 4 / 7


def test_no_boxes_leave_the_figures_open():
    assert summarise([Matches(0, 0, 0)]).precision.value is None
