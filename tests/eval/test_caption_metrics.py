"""All caption metrics together, against the figures of pycocoevalcap 1.2 on the same words."""

import random

import pytest

from sightline_eval.caption_metrics import score_captions
from sightline_eval.captions import Caption

VOCABULARY = ["a", "dog", "sits", "on", "the", "grass"]


def random_captions():
    rng = random.Random(7)

    def text():
        return " ".join(rng.choices(VOCABULARY, k=rng.randint(3, 12)))

    captions = [Caption(image, text()) for image in range(30)]
    return captions, {image: tuple(text() for _ in range(3)) for image in range(30)}


def test_the_figures_are_those_of_the_published_code():
    scores = score_captions(*random_captions(), resamples=20)
    bleu = [0.8069207396035336, 0.556684356136974, 0.26999781769004544, 0.11525221439960553]
    assert [figure.value for figure in scores.bleu] == pytest.approx(bleu, abs=1e-9)
    assert scores.rouge_l.value == pytest.approx(0.4918036956515504, abs=1e-12)
    assert scores.cider.value == pytest.approx(1.5256308728514842, abs=1e-12)
    assert scores.meteor.value == pytest.approx(0.2608747551400036, abs=1e-12)
    assert scores.n_captions == 30


def test_intervals_hold_their_figure():
    scores = score_captions(*random_captions(), resamples=100)
    for figure in (*scores.bleu, scores.meteor, scores.rouge_l, scores.cider, scores.words):
        assert figure.low < figure.value < figure.high


def test_perfect_captions_have_the_highest_scores():
    texts = {1: "A red kite in the blue sky.", 2: "Two dogs on green grass.", 3: "One cat asleep!"}
    captions = [Caption(image, text.upper()) for image, text in texts.items()]
    scores = score_captions(captions, {image: (text,) for image, text in texts.items()})
    assert [figure.value for figure in (*scores.bleu, scores.meteor, scores.rouge_l)] == [1.0] * 6
    assert scores.cider.value == pytest.approx((10 + 10 + 7.5) / 3)  # the cat has no run of four
    assert scores.words.value == pytest.approx((7 + 5 + 3) / 3)


def test_references_of_other_images_do_not_count():
    captions, references = random_captions()
    more = {**references, 99: ("a dog",) * 5}
    assert score_captions(captions, more, resamples=2) == score_captions(
        captions, references, resamples=2
    )


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ([], "captions is empty"),
        ([Caption(1, "a"), Caption(1, "b")], "image 1 has two captions"),
        ([Caption(2, "a")], "image 2 has a caption but no references"),
        ([Caption(3, "a")], "image 3 has a caption but no references"),
    ],
)
def test_what_cannot_be_scored_is_named(captions, message):
    with pytest.raises(ValueError, match=message):
        score_captions(captions, {1: ("a dog",), 3: ()})
