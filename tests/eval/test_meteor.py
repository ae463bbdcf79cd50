"""METEOR against figures of METEOR 1.5's Java program with `-m "exact stem" -w "1.0 0.6"`."""

import random

import pytest

from sightline_eval.meteor import count_meteor, meteor


def words(text):
    return tuple(text.split())


@pytest.mark.parametrize(
    ("candidate", "reference", "score"),
    [
        ("the left has a dog sitting on", "a dog sits on the left", 0.46076005595009917),
        ("a dog", "a dog", 1.0),
        ("dog a", "a dog", 0.4),
        ("the dog runs", "the dogs run", 0.6571428571428571),  # all matched, two by stem
        ("a b c a b", "a b a b c", 0.5004680755588762),
        ("dog", "cat", 0.0),
    ],
)
def test_one_caption_scores_as_in_java(candidate, reference, score):
    assert meteor([count_meteor(words(candidate), [words(reference)])]) == pytest.approx(score)


def test_a_set_of_captions_scores_as_in_java():
    rng = random.Random(3)
    vocabulary = words("a the dog cats cat sits sitting on left grass red kite kites")

    def text():
        return tuple(rng.sample(vocabulary, rng.randint(3, 8)))

    counts = [count_meteor(text(), [text()]) for _ in range(40)]
    assert meteor(counts) == pytest.approx(0.19371465799132057, abs=1e-12)


def test_the_best_reference_counts():
    references = [words("a cat"), words("dog a"), words("a dog")]
    assert meteor([count_meteor(words("a dog"), references)]) == 1.0


def test_content_words_weigh_three_times_as_much_as_function_words():
    counts = count_meteor(words("the dog"), [words("the cat")])
    assert (counts.weight, counts.matched) == (0.25 + 0.75, 0.25)


def test_nothing_said_scores_zero():
    assert meteor([count_meteor((), [words("a dog")])]) == 0.0
