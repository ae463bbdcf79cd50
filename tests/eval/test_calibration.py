"""Calibration against hand-computed profiles, over the SDK and the contract's fake service."""

import pytest

from sightline import RewardClient
from sightline.testing import FakeService
from sightline_core.fisao import Profile
from sightline_eval.calibration import (
    CaptionedImage,
    MentionScores,
    auto_margin,
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


def test_the_automatic_margin_is_a_quarter_of_the_gap():
    result = calibrate_profile(mentions([10, 50], [0, 20]), margin="auto")
    assert result.profile.margin == 5.0  # (30 - 10) / 4


def test_the_automatic_margin_keeps_both_thresholds_inside_the_range():
    result = calibrate_profile(mentions([30, 31], [1, 3]), margin="auto")
    profile = result.profile
    assert auto_margin(profile) == profile.margin == 0.25  # half way from 30.5 to 31
    assert profile.s_min < profile.lower < profile.upper < profile.s_max
