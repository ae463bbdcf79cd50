"""POPE's figures against hand-computed cases, in both ways to read an answer."""

import pytest

from sightline_eval.pope import read_answer, score_pope, score_splits
from sightline_eval.pope_questions import Question


@pytest.mark.parametrize(
    ("answer", "official", "lmms"),
    [
        ("Yes", True, True),
        ("yes ", True, True),
        ("No", False, False),
        ("NO", True, False),  # the published scorer knows "No" and "no" only
        ("no!", True, None),
        ("No.", False, None),
        ("No, there is no dog.", False, None),
        ("Yes, there is a dog. It is not brown.", True, None),  # up to the first full stop
        ("There is not.", False, None),
        ("Yes, but not a brown one", False, None),
        ("There isn't", True, None),
        ("", True, None),
        ("I cannot see one", True, None),
    ],
)
def test_an_answer_is_read_as_each_scorer_does(answer, official, lmms):
    assert read_answer(answer, "official") is official
    assert read_answer(answer, "lmms-eval") is lmms


def questions(labels, per_image=2):
    return [
        Question(number, f"{number // per_image}.png", "?", label == "y")
        for number, label in enumerate(labels)
    ]


def values(scores):
    figures = (scores.accuracy, scores.precision, scores.recall, scores.f1, scores.yes_ratio)
    return [figure.value for figure in figures]


def test_the_figures_of_a_hand_computed_set():
    # 3 true yes, 2 false yes, 1 true no, 4 false no
    answers = dict(enumerate(["Yes"] * 3 + ["No"] * 4 + ["Yes"] * 2 + ["No"]))
    scores = score_pope(questions("yyyyyyynnn"), answers)
    assert values(scores) == pytest.approx([4 / 10, 3 / 5, 3 / 7, 6 / 12, 5 / 10])
    assert (scores.n_questions, scores.n_unread) == (10, 0)
    assert scores.accuracy.low <= scores.accuracy.value <= scores.accuracy.high


def test_an_unread_answer_lowers_the_accuracy_only():
    answers = {0: "Yes", 1: "Yes.", 2: "yes", 3: "no", 4: "perhaps"}
    scores = score_pope(questions("yyynn"), answers, mode="lmms-eval")
    assert values(scores) == pytest.approx([3 / 5, 1.0, 1.0, 1.0, 2 / 5])
    assert scores.n_unread == 2
    assert values(score_pope(questions("yyynn"), answers)) == pytest.approx(
        [4 / 5, 3 / 4, 1.0, 6 / 7, 4 / 5]
    )


def test_the_yes_ratio_is_that_of_the_answers():
    answers = dict.fromkeys(range(4), "Yes")
    assert score_pope(questions("ynnn"), answers).yes_ratio.value == 1.0


def test_where_nothing_is_answered_yes_precision_is_unknown():
    scores = score_pope(questions("ynyn"), dict.fromkeys(range(4), "No"))
    assert values(scores) == [0.5, None, 0.0, 0.0, 0.0]


def test_answers_go_by_id_and_not_by_order():
    answers = {3: "No", 1: "No", 2: "Yes", 0: "Yes"}
    assert score_pope(questions("ynyn"), answers).accuracy.value == 1.0


def test_questions_of_one_image_are_resampled_together():
    answers = dict(enumerate(["Yes"] * 50 + ["No"] * 50))
    scores = score_pope(questions("y" * 100, per_image=50), answers)
    assert (scores.accuracy.low, scores.accuracy.high) == (0.0, 1.0)


def test_overall_figures_pool_the_splits():
    asked = {"random": questions("yn"), "popular": questions("yynn")}
    answers = {
        "random": {0: "Yes", 1: "No"},
        "popular": {0: "No", 1: "Yes", 2: "Yes", 3: "Yes"},
    }
    scores = score_splits(asked, answers)
    assert list(scores) == ["random", "popular", "overall"]
    assert values(scores["random"]) == [1.0, 1.0, 1.0, 1.0, 0.5]
    assert values(scores["popular"]) == pytest.approx([1 / 4, 1 / 3, 1 / 2, 2 / 5, 3 / 4])
    assert values(scores["overall"]) == pytest.approx([3 / 6, 2 / 4, 2 / 3, 4 / 7, 4 / 6])


def test_ids_that_do_not_match_are_named():
    asked = questions("ynyn")
    with pytest.raises(ValueError, match=r"2 question ids are without an answer \(2, 3\)"):
        score_pope(asked, {0: "Yes", 1: "No"})
    with pytest.raises(ValueError, match=r"6 question ids are answered but not asked \(4, 5, 6, 7"):
        score_pope(asked, dict.fromkeys(range(10), "Yes"))
    with pytest.raises(ValueError, match="question id 0 occurs twice"):
        score_pope([*asked, asked[0]], dict.fromkeys(range(4), "Yes"))
    with pytest.raises(ValueError, match="questions is empty"):
        score_pope([], {})
    with pytest.raises(ValueError, match="split random: 4 question ids are without an answer"):
        score_splits({"random": asked}, {"random": {}})
    with pytest.raises(ValueError, match=r"questions has the splits \['random'\], answers \[\]"):
        score_splits({"random": asked}, {})
