"""The figures of a reproduction against hand-computed cases, the world's card and POPE's scorer."""

from collections.abc import Mapping

import pytest

from sightline_eval.pope import score_splits
from sightline_trainers.reproduction.exam import (
    Answers,
    Exam,
    build_exam,
    read_answers,
    write_answers,
)
from sightline_trainers.reproduction.measures import (
    caption_tallies,
    changes,
    figures,
    pope_tallies,
)
from sightline_world.captions import faithful
from sightline_world.splits import stream
from sightline_world.training.metrics import chair


@pytest.fixture(scope="module")
def exam() -> Exam:
    return build_exam("validation", 10)


@pytest.fixture(scope="module")
def truths(exam: Exam) -> list[str]:
    """A faithful caption of each scene."""
    return [
        faithful(scene.layout, stream("validation", scene.index, purpose="caption", seed=99))
        for scene in exam.scenes
    ]


def swapped(caption: str, exam: Exam, place: int) -> str:
    """A caption whose scene gets a zebra that it lacks."""
    assert "zebra" not in exam.scenes[place].layout.names
    return f"{caption} There is a zebra. There is a zebra on the left."


def test_captions_are_measured_as_on_the_world_s_card(exam, truths):
    captions = [swapped(truths[0], exam, 0), "A photo of nothing.", *truths[2:-1], "Two dogs."]
    found = figures(caption_tallies(captions, exam))
    card = chair(captions, [scene.layout for scene in exam.scenes])
    for name in ("chair_s", "chair_i", "recall"):
        assert 100 * found[name].value == pytest.approx(getattr(card, name))
    assert found["objects"].value == pytest.approx(card.objects)


def test_a_hallucination_that_is_named_twice_counts_once(exam, truths):
    found = figures(caption_tallies([swapped(truths[0], exam, 0), *truths[1:]], exam))
    n_objects = sum(len(scene.layout.names) for scene in exam.scenes)
    assert found["chair_s"].value == pytest.approx(1 / 10)
    assert found["chair_i"].value == pytest.approx(1 / (n_objects + 1))
    assert found["recall"].value == 1.0
    assert found["chair_s"].low <= 1 / 10 <= found["chair_s"].high


def test_changes_are_paired_so_equal_captions_change_nothing_at_all(exam, truths):
    base = caption_tallies(truths, exam)
    for change in changes(base, base).values():
        assert (change.value, change.low, change.high) == (0.0, 0.0, 0.0)
    worse = caption_tallies([swapped(truths[0], exam, 0), *truths[1:]], exam)
    change = changes(worse, base)
    assert change["chair_s"].value == pytest.approx(0.1)
    assert change["recall"].value == 0.0
    assert change["words"].value == pytest.approx((4 + 7) / 10)


def test_faithful_captions_are_closer_to_the_references_than_others(exam, truths):
    right = figures(caption_tallies(truths, exam))["cider"].value
    moved = figures(caption_tallies([*truths[1:], truths[0]], exam))["cider"].value
    assert right > 2 * moved
    assert figures(caption_tallies([""] * 10, exam))["cider"].value == 0.0


def test_silence_has_no_share_of_wrong_objects(exam):
    found = figures(caption_tallies([""] * 10, exam))
    assert found["chair_i"].value is None
    assert found["chair_s"].value == 0.0


def replies(exam: Exam, wrong: int) -> dict[str, dict[int, str]]:
    """Right answers, but for every `wrong`th question."""
    return {
        split: {
            each.id: "Yes." if each.is_yes != (each.id % wrong == 0) else "No."
            for each in questions
        }
        for split, questions in exam.questions.items()
    }


def test_answers_are_scored_as_by_pope(exam):
    said: Mapping[str, Mapping[int, str]] = replies(exam, 3)
    found = figures(pope_tallies(said, exam))
    overall = score_splits(exam.questions, said)["overall"]
    for name in ("f1", "recall", "accuracy"):
        mine, theirs = found[f"pope_{name}"], getattr(overall, name)
        assert mine.value == pytest.approx(theirs.value)
        assert 0 < mine.low < mine.value < mine.high < 1


def test_each_scene_is_asked_for_two_present_and_two_absent_objects_per_split(exam):
    assert set(exam.questions) == {"random", "adversarial"}
    for questions in exam.questions.values():
        for scene in exam.scenes:
            asked = [each for each in questions if each.image == str(scene.index)]
            assert sum(each.is_yes for each in asked) == sum(not each.is_yes for each in asked)
            assert len(asked) in (0, 4)
    first = exam.questions["random"][0]
    assert first.is_yes
    assert any(name in first.text for name in exam.scenes[int(first.image)].layout.names)


def test_an_exam_is_the_first_scenes_whoever_asks(exam):
    again = build_exam("validation", 12)
    assert [scene.layout for scene in again.scenes[:10]] == [s.layout for s in exam.scenes]
    assert exam.name == "validation-10"
    with pytest.raises(ValueError, match="scenes is 9: give 10 or more"):
        build_exam("validation", 9)


def test_answers_are_found_again_under_their_key_alone(tmp_path):
    answers = Answers(("a",), ("b",), {"random": {1: "Yes."}}, ((1.5, -2.0),))
    path = tmp_path / "deep" / "base.json"
    assert read_answers(path, key="k") is None
    write_answers(path, answers, key="k")
    assert read_answers(path, key="k") == answers
    assert read_answers(path, key="another policy") is None
