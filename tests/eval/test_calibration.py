"""Calibration against hand-computed profiles, over the SDK and the contract's fake service."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sightline import RewardClient
from sightline.testing import FakeService
from sightline_core.fisao import Profile
from sightline_eval.calibration import (
    CaptionedImage,
    MentionScores,
    calibrate_profile,
    gather,
    score_mentions,
)
from sightline_eval.captions import Caption
from sightline_eval.lexicon import load_lexicon
from sightline_proto import ModelInfo

CLEAN = load_lexicon("clean")
MODEL = ModelInfo(id="m", revision="r", preprocess="p", dtype="float32")
COSINES = {"dog": 0.30, "puppy": 0.26, "cat": 0.10, "person": 0.20, "lamp": 0.9}


def image(name, *captions, truth):
    return CaptionedImage(name, lambda: name.encode(), captions, frozenset(truth))


def score(images):
    service = FakeService(cosine=lambda _, text: COSINES.get(text, 0.0))
    with RewardClient("http://fake", transport=service) as client:
        return score_mentions(client, images, CLEAN)


def mentions(correct, hallucinated):
    return MentionScores(tuple(correct), tuple(hallucinated), 0, MODEL, "cos100")


def test_every_mention_is_scored_and_labelled_by_the_image_that_it_is_about():
    scores = score(
        [
            image("1", "A dog, a dog and a cat.", "A lamp.", truth=["dog"]),
            image("2", "A puppy and a person.", truth=["dog", "bus"]),
        ]
    )
    assert scores.correct == pytest.approx((30.0, 30.0, 26.0))
    assert scores.hallucinated == pytest.approx((10.0, 20.0))
    assert scores.n_unlabelled == 1
    assert (scores.model.id, scores.scale) == ("fake", "cos100")


def test_more_images_than_fit_a_request_are_scored_in_order_with_progress():
    done = []
    service = FakeService(cosine=lambda name, _: int(name) / 100)
    images = [image(str(n), "A dog.", truth=["dog"]) for n in range(40)]
    with RewardClient("http://fake", transport=service) as client:
        scores = score_mentions(client, images, CLEAN, on_progress=done.append)
    assert scores.correct == pytest.approx(tuple(float(n) for n in range(40)))
    assert sum(done) == 40


def test_an_image_that_cannot_be_scored_is_named():
    with pytest.raises(ValueError, match="image broken 7 could not be scored"):
        score([image("broken 7", "A dog.", truth=["dog"])])


def test_no_captions_are_refused():
    with pytest.raises(ValueError, match="no caption has any text"):
        score([])


def test_captions_of_one_image_are_put_together_and_empty_ones_dropped():
    captions = [Caption(1, "A dog."), Caption(2, "  "), Caption(1, "A cat.")]
    files = {1: lambda: b"1", 2: lambda: b"2"}
    (only,) = gather(captions, files, {1: frozenset({"dog"}), 2: frozenset()})
    assert (only.name, only.captions, only.truth) == ("1", ("A dog.", "A cat."), {"dog"})
    assert only.read() == b"1"


def test_the_profile_of_hand_computed_scores():
    result = calibrate_profile(mentions([30, 20, 34], [10, 16]), name="n", margin=2.0)
    profile = result.profile
    assert (profile.mu_gt, profile.mu_hal) == (28.0, 13.0)
    assert (profile.s_min, profile.s_max, profile.margin) == (10.0, 34.0, 2.0)
    assert (profile.n_gt, profile.n_hal, profile.scale) == (3, 2, "cos100")
    assert (profile.model_id, profile.model_revision, profile.preprocess) == ("m", "r", "p")
    assert result.share_supported == 1 / 5  # 34 > 30
    assert result.share_hallucinated == 1 / 5  # 10 < 11
    assert result.auroc == 1.0
    assert Profile.from_json(profile.to_json()) == profile


def test_a_verifier_that_prefers_hallucinations_is_refused():
    with pytest.raises(ValueError, match="mu_gt is 10.0 and mu_hal 20.0"):
        calibrate_profile(mentions([10], [20]))


def test_a_kind_without_mentions_is_refused():
    with pytest.raises(ValueError, match="hal_scores is empty"):
        calibrate_profile(mentions([10], []))


def test_the_automatic_margin_lets_a_third_of_each_kind_earn_a_reward():
    # thirds at 40 (mean 30: 10 above) and at -2 (mean 4: 6 below): the narrower one counts
    correct, hallucinated = [10, 20, 20, 40, 40, 40, 40], [-8, -8, -2, 10, 10, 10, 16]
    result = calibrate_profile(mentions(correct, hallucinated), margin="auto")
    assert (result.profile.mu_gt, result.profile.mu_hal) == (30.0, 4.0)
    assert result.profile.margin == 6.0
    assert result.share_supported >= 4 / 14


def test_the_automatic_margin_is_zero_where_the_means_leave_no_room():
    # two thirds of the correct mentions lie below their mean, which one high score lifts
    scores = mentions([10, 10, 10, 50], [0, 0, 0, 1])
    assert calibrate_profile(scores, margin="auto").profile.margin == 0.0


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 50), min_size=3, max_size=30),
    st.lists(st.floats(-50, 0), min_size=3, max_size=30),
    st.floats(0.1, 10),
)
def test_the_automatic_margin_follows_the_scale_of_the_scores(correct, hallucinated, factor):
    assume(sum(correct) / len(correct) > sum(hallucinated) / len(hallucinated) + 1e-3)
    margin = calibrate_profile(mentions(correct, hallucinated), margin="auto").profile.margin
    scaled = mentions([factor * s for s in correct], [factor * s for s in hallucinated])
    again = calibrate_profile(scaled, margin="auto").profile.margin
    assert again == pytest.approx(factor * margin, rel=1e-6, abs=1e-9)
