import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_core.fisao import (
    DEFAULT_MARGINS,
    SCALES,
    Profile,
    calibrate,
    qualifying_shares,
    span_reward,
    to_scale,
)

PROFILE = Profile(
    name="vector",
    model_id="m",
    model_revision="r",
    preprocess="p",
    scale="cos100",
    mu_gt=24,
    mu_hal=20,
    margin=4,
    s_min=10,
    s_max=34,
    norm="corrected",
    n_gt=3,
    n_hal=2,
    created="2025-01-01T00:00:00Z",
    sightline_version="0",
)
PRINTED = replace(PROFILE, norm="printed")


@pytest.mark.parametrize(
    ("score", "corrected", "printed", "verdict"),
    [
        (31, 0.5, 0.5, "supported"),
        (34, 1.0, 1.0, "supported"),
        (90, 1.0, 1.0, "supported"),
        (28, 0.0, 0.0, "neutral"),
        (22, 0.0, 0.0, "neutral"),
        (16, 0.0, 0.0, "neutral"),
        (12, -2 / 3, -0.4, "hallucinated"),
        (10, -1.0, -0.6, "hallucinated"),
        (5, -1.0, -1.0, "hallucinated"),
        (-90, -1.0, -1.0, "hallucinated"),
    ],
)
def test_the_reward_is_the_papers_in_both_normalisations(score, corrected, printed, verdict):
    assert span_reward(score, PROFILE) == (pytest.approx(corrected), verdict)
    assert span_reward(score, PRINTED) == (pytest.approx(printed), verdict)


def test_a_margin_beyond_the_calibrated_scores_rewards_nothing():
    wide = replace(PROFILE, margin=10)  # lower = s_min, upper = s_max
    for score in (-50.0, 9.9, 10.0, 34.0, 34.1, 80.0):
        assert span_reward(score, wide) == (0.0, "neutral")
        assert span_reward(score, replace(wide, norm="printed")) == (0.0, "neutral")
    one_sided = replace(PROFILE, s_min=17)  # lower = 16
    assert span_reward(1.0, one_sided) == (0.0, "neutral")
    assert span_reward(31.0, one_sided) == (0.5, "supported")


def test_another_margin_is_one_replace_away_and_is_checked_again():
    narrow = replace(PROFILE, margin=0)
    assert span_reward(25.0, PROFILE) == (0.0, "neutral")
    assert span_reward(25.0, narrow) == (pytest.approx(0.1), "supported")
    assert narrow.digest != PROFILE.digest
    with pytest.raises(ValueError, match="margin is -1"):
        replace(PROFILE, margin=-1)


finite = st.floats(-1e6, 1e6)


@st.composite
def profiles(draw) -> Profile:
    s_min, mu_hal, mu_gt, s_max = sorted(draw(st.lists(finite, min_size=4, max_size=4)))
    if mu_gt <= mu_hal:
        mu_gt, s_max = mu_hal + 1, max(s_max, mu_hal + 1)
    return replace(
        PROFILE,
        s_min=s_min,
        mu_hal=mu_hal,
        mu_gt=mu_gt,
        s_max=s_max,
        margin=draw(st.floats(0, 1e6)),
        norm=draw(st.sampled_from(["corrected", "printed"])),
    )


@given(profiles(), finite, finite)
def test_rewards_are_bounded_rise_with_the_score_and_agree_with_the_verdict(profile, one, other):
    low, high = sorted((one, other))
    reward_low, verdict = span_reward(low, profile)
    assert -1 <= reward_low <= span_reward(high, profile)[0] <= 1
    if verdict == "neutral":
        assert reward_low == 0
    else:
        assert reward_low * (1 if verdict == "supported" else -1) >= 0


@given(profiles(), finite)
def test_the_printed_penalty_is_never_stronger_and_the_praise_is_the_same(profile, score):
    corrected = span_reward(score, replace(profile, norm="corrected"))
    printed = span_reward(score, replace(profile, norm="printed"))
    assert corrected[1] == printed[1]
    assert corrected[0] <= printed[0]
    if corrected[0] > 0:
        assert corrected == printed


@given(
    st.lists(st.floats(20, 40), min_size=1, max_size=20),
    st.lists(st.floats(0, 19), min_size=1, max_size=20),
    st.floats(0, 50),
)
def test_all_scales_give_the_same_rewards_when_everything_is_on_one_scale(gt, hal, score):
    rewards = []
    for scale, factor in (("cos100", 1.0), ("clipscore", 2.5), ("dot", 2.6)):
        profile = calibrate(
            [factor * s for s in gt], [factor * s for s in hal], scale=scale, margin=factor * 2.0
        )
        rewards.append(span_reward(factor * score, profile)[0])
    assert rewards[1:] == pytest.approx([rewards[0]] * 2, abs=1e-6)


def test_calibration_takes_means_and_extremes_over_mentions():
    profile = calibrate([30.0, 20.0, 28.0], [10.0, 21.0], name="n", model_id="m")
    assert (profile.mu_gt, profile.mu_hal) == (26.0, 15.5)
    assert (profile.s_min, profile.s_max) == (10.0, 30.0)
    assert (profile.n_gt, profile.n_hal, profile.margin) == (3, 2, 4.0)
    assert (profile.lower, profile.upper) == (11.5, 30.0)


@pytest.mark.parametrize(("scale", "margin"), [("cos100", 4), ("clipscore", 10), ("dot", 10)])
def test_each_scale_has_its_margin(scale, margin):
    assert calibrate([2.0], [1.0], scale=scale).margin == margin == DEFAULT_MARGINS[scale]
    assert calibrate([2.0], [1.0], scale=scale, margin=1.5).margin == 1.5


@pytest.mark.parametrize(
    ("gt", "hal", "message"),
    [
        ([1.0], [2.0], "mu_gt is 1.0 and mu_hal 2.0"),
        ([2.0], [2.0], "mu_gt is 2.0 and mu_hal 2.0"),
        ([], [1.0], "gt_scores is empty"),
        ([1.0], [], "hal_scores is empty"),
        ([1.0, math.nan], [0.0], "gt_scores holds a number that is not finite"),
        ([1.0], [-math.inf], "hal_scores holds a number that is not finite"),
    ],
)
def test_calibration_refuses_scores_that_cannot_tell_right_from_wrong(gt, hal, message):
    with pytest.raises(ValueError, match=message):
        calibrate(gt, hal)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mu_gt": 20}, "mu_gt is 20.0 and mu_hal 20.0"),
        ({"mu_gt": math.nan}, "mu_gt is nan: give a finite number"),
        ({"s_max": math.inf}, "s_max is inf"),
        ({"s_min": "10"}, "s_min is '10'"),
        ({"margin": True}, "margin is True"),
        ({"s_min": 21}, "s_min is 21.0, above mu_hal"),
        ({"s_max": 23}, "s_max is 23.0, below mu_gt"),
        ({"scale": "cosine"}, "scale is 'cosine': choose one of cos100, clipscore, dot"),
        ({"norm": "literal"}, "norm is 'literal': choose one of corrected, printed"),
        ({"n_gt": -1}, "n_gt is -1"),
        ({"n_hal": 1.5}, "n_hal is 1.5"),
        ({"name": 3}, "name is 3: give a string"),
    ],
)
def test_a_profile_refuses_what_contradicts_itself(change: dict[str, Any], message):
    with pytest.raises(ValueError, match=message):
        replace(PROFILE, **change)


@given(profiles())
def test_a_profile_survives_its_file(profile):
    assert Profile.from_json(profile.to_json()) == profile
    assert Profile.from_json(profile.to_json()).digest == profile.digest


def test_the_digest_is_of_the_content_alone():
    assert replace(PROFILE, mu_gt=24.0).digest == PROFILE.digest
    assert len({replace(PROFILE, mu_gt=25).digest, PRINTED.digest, PROFILE.digest}) == 3
    assert len(PROFILE.digest) == 64


def test_a_file_that_was_changed_or_is_no_profile_is_refused():
    content = json.loads(PROFILE.to_json())
    with pytest.raises(ValueError, match="digest .* does not match"):
        Profile.from_json(json.dumps({**content, "margin": 5}))
    del content["digest"]
    assert Profile.from_json(json.dumps({**content, "margin": 5})).margin == 5
    with pytest.raises(ValueError, match="unknown fields colour"):
        Profile.from_json(json.dumps({**content, "colour": "red"}))
    with pytest.raises(ValueError, match="lacks margin, s_max"):
        Profile.from_json(json.dumps({k: content[k] for k in content.keys() - {"margin", "s_max"}}))
    with pytest.raises(ValueError, match="a JSON object, not list"):
        Profile.from_json("[]")
    with pytest.raises(ValueError, match="mu_gt is nan"):
        Profile.from_json(json.dumps({**content, "mu_gt": math.nan}))


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_refused(score):
    with pytest.raises(ValueError, match="give a finite number"):
        span_reward(score, PROFILE)


def test_shares_beyond_the_margin_are_counted():
    assert qualifying_shares([12, 20, 24, 30, 31], PROFILE) == (0.2, 0.4)
    assert qualifying_shares([], PROFILE) == (0.0, 0.0)


def test_a_cosine_on_each_scale():
    assert to_scale(0.25, "cos100") == 25.0
    assert to_scale(0.25, "clipscore") == 62.5
    assert to_scale(-0.1, "clipscore") == pytest.approx(-25.0)
    assert to_scale(0.25, "dot", image_norm=20.0, text_norm=12.5) == 62.5
    with pytest.raises(ValueError, match="needs image_norm and text_norm"):
        to_scale(0.25, "dot", image_norm=20.0)
    with pytest.raises(ValueError, match=f"choose one of {', '.join(SCALES)}"):
        to_scale(0.25, "percent")
