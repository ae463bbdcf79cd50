"""Which objects POPE asks for."""

from collections import Counter

import numpy as np
import pytest

from sightline_eval.pope_questions import SPLITS, ask, build_questions

NAMES = [f"thing{i:02}" for i in range(20)]


def many_images():
    rng = np.random.default_rng(5)
    weights = np.arange(1, 21) / 210  # the higher the number, the more frequent
    return {
        f"{i:03}.png": set(
            rng.choice(NAMES, size=int(rng.integers(3, 7)), replace=False, p=weights)
        )
        for i in range(60)
    }


def asked(split, objects, **options):
    """(image, object, is_yes) of each question, in order."""
    questions = build_questions(objects, split, wording=str, **options)
    assert [question.id for question in questions] == list(range(1, len(questions) + 1))
    return [(question.image, question.text, question.is_yes) for question in questions]


@pytest.mark.parametrize("split", SPLITS)
def test_half_the_questions_ask_for_what_is_there_and_half_for_what_is_not(split):
    objects = many_images()
    questions = asked(split, objects, images=40)
    assert len(questions) == 2 * 3 * 40
    assert [is_yes for _, _, is_yes in questions] == [True, False] * 120
    assert all((name in objects[image]) == is_yes for image, name, is_yes in questions)
    assert len(set(questions)) == len(questions)  # nothing is asked for twice in an image
    assert set(Counter(image for image, _, _ in questions).values()) == {6}


def test_the_splits_differ_in_what_is_not_there_only():
    by_split = {split: asked(split, many_images(), images=40) for split in SPLITS}
    yes = [[it for it in questions if it[2]] for questions in by_split.values()]
    assert yes[0] == yes[1] == yes[2]
    no = [[it for it in questions if not it[2]] for questions in by_split.values()]
    assert no[0] != no[1] != no[2] != no[0]


def test_popular_asks_for_the_most_frequent_objects():
    objects = many_images()
    questions = asked("popular", objects, images=60)
    frequency = Counter(name for names in objects.values() for name in names)
    for image, present in objects.items():
        no = [name for where, name, is_yes in questions if where == image and not is_yes]
        ranked = sorted(frequency.keys() - present, key=lambda name: (-frequency[name], name))
        assert no == ranked[:3]


def test_adversarial_asks_for_what_goes_most_often_with_the_object_before():
    objects = many_images()
    questions = asked("adversarial", objects, images=60)
    used = {}
    for (image, present, _), (_, absent, _) in zip(questions[::2], questions[1::2], strict=True):
        left = sorted(set(NAMES) - objects[image] - used.setdefault(image, set()))
        together = {
            name: sum({name, present} <= names for names in objects.values()) for name in left
        }
        assert together[absent] == max(together.values()) > 0
        used[image].add(absent)


def test_where_nothing_goes_with_an_object_the_adversarial_choice_is_random():
    objects = {1: {"a", "b"}, 2: {"c", "d"}, 3: {"e", "f"}}
    chosen = {
        asked("adversarial", objects, images=3, per_image=1, seed=seed)[1][1] for seed in range(30)
    }
    assert len(chosen) > 2


def test_random_asks_for_all_absent_objects_alike():
    objects = {i: {"a", "b", "c"} for i in range(2000)} | {-1: {"d", "e", "f", "g"}}
    questions = asked("random", objects, images=2001, per_image=1)
    counts = Counter(name for _, name, is_yes in questions if not is_yes)
    for name in "defg":
        assert abs(counts[name] - 500) < 5 * (2000 * 0.25 * 0.75) ** 0.5


def test_the_seed_decides_images_and_objects():
    objects = many_images()
    assert asked("random", objects, images=30, seed=1) == asked(
        "random", objects, images=30, seed=1
    )
    assert asked("random", objects, images=30, seed=1) != asked(
        "random", objects, images=30, seed=2
    )


def test_images_with_too_few_objects_are_left_out():
    objects = {"rich": {"a", "b", "c"}, "poor": {"d", "e"}, "other": {"d", "e", "f"}}
    questions = asked("random", objects, images=2)
    assert {image for image, _, _ in questions} == {"rich", "other"}


def test_what_cannot_be_built_is_named():
    with pytest.raises(ValueError, match="images is 0 and per_image 3: both must be 1 or more"):
        asked("random", {1: {"a", "b", "c"}}, images=0)
    with pytest.raises(ValueError, match="images is 2, but only 1 have 3 objects or more"):
        asked("random", {1: {"a", "b", "c"}, 2: {"a"}}, images=2)
    with pytest.raises(ValueError, match="image 1 leaves 1 objects to ask for where 3 are needed"):
        asked("random", {1: {"a", "b", "c"}, 2: {"a", "b", "d"}}, images=2)


def test_the_wording_has_the_right_article():
    assert ask("oven") == "Is there an oven in the image?"
    assert ask("traffic light") == "Is there a traffic light in the image?"
