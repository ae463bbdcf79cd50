"""ASPO's weights, normaliser and margin: hand-computed cases, DPO, and TRL's loss."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import logsigmoid

from sightline_trainers import aspo
from sightline_trainers.aspo import Config, aspo_margin, normaliser, weights
from sightline_trainers.configuration import read_config
from sightline_trainers.data import DataConfig
from sightline_trainers.learning_rate import warm_cosine

RECIPES = Path(aspo.__file__).parent / "recipes"
LR, WEIGHT, REJECTED = (0.7, -0.3, 1.1), (0.0, 1.0, 0.4), -0.4
"""The example of three sentences: R_c = 1.5, R_c* = 1.64, k = 0.9146."""


def gradients(lr, weight, rejected=REJECTED, *, kind="ratio", level="sentence", beta=0.1):
    """The loss of one pair, and its gradients by each chosen sentence and the rejected answer."""
    chosen = torch.tensor([lr], dtype=torch.float64, requires_grad=True)
    other = torch.tensor([rejected], dtype=torch.float64, requires_grad=True)
    w = torch.tensor([weight], dtype=torch.float64)
    count = torch.tensor([float(len(lr))], dtype=torch.float64)
    k = normaliser(chosen, w, count, kind=kind, level=level)
    margin = aspo_margin(chosen, w, k, other, beta=beta)
    (-logsigmoid(margin).sum()).backward()
    return margin.item(), chosen.grad[0].tolist(), other.grad.item()


def test_the_margin_is_that_of_dpo_and_the_gradient_is_shared_by_weight():
    margin, chosen, rejected = gradients(LR, WEIGHT)
    assert margin == pytest.approx(0.19)
    assert chosen == pytest.approx([-0.0414, -0.0828, -0.05796], abs=1e-5)
    assert rejected == pytest.approx(0.04526, abs=1e-5)


def test_without_weights_it_is_dpo():
    margin, chosen, rejected = gradients(LR, (0.0, 0.0, 0.0))
    assert margin == pytest.approx(0.19)
    assert chosen == pytest.approx([-0.04526] * 3, abs=1e-5)
    assert rejected == pytest.approx(0.04526, abs=1e-5)


@pytest.mark.parametrize("kind", ["ratio", "weights", "none"])
@pytest.mark.parametrize("lr", [0.8, 0.0, -1.3])
def test_one_sentence_is_dpo_in_value_and_gradient(kind, lr):
    weight = weights([0.3], [2.0], alpha=0.5)
    assert weight == (0.0,)
    margin, chosen, rejected = gradients((lr,), weight, kind=kind)
    dpo = 0.1 * (lr - REJECTED)
    slope = 0.1 / (1 + math.exp(dpo))
    assert margin == pytest.approx(dpo)
    assert chosen == pytest.approx([-slope])
    assert rejected == pytest.approx(slope)


def test_at_the_first_step_the_normaliser_is_its_limit():
    margin, chosen, rejected = gradients((0.0, 0.0, 0.0), WEIGHT, 0.0)
    limit = 3 / 4.4
    assert margin == 0.0
    assert chosen == pytest.approx([-0.05 * limit * (1 + w) for w in WEIGHT])
    assert sum(chosen) == pytest.approx(-3 * rejected)  # as much in all as with DPO


@pytest.mark.parametrize("kind", ["ratio", "weights"])
def test_sentences_that_moved_apart_neither_flip_nor_blow_up_the_gradient(kind):
    """R_c / R_c* would be 0.1 / -0.8, which pushes the chosen answer away, and 0.1 / 0.001."""
    for weight in ((0.0, 1.0), (0.0, 0.11)):
        _, chosen, _ = gradients((1.0, -0.9), weight, kind=kind)
        assert all(-0.1 < each < 0 for each in chosen)


def test_the_options_of_the_normaliser_are_what_they_say():
    lr, weight = torch.tensor([LR]), torch.tensor([WEIGHT])
    count = torch.tensor([3.0])

    def k(kind):
        return normaliser(lr, weight, count, kind=kind, level="sentence").item()

    assert k("ratio") == pytest.approx(1.5 / 1.64)
    assert k("weights") == pytest.approx(3 / 4.4)
    assert k("none") == 1.0


def test_sentences_past_the_last_of_an_answer_count_for_nothing():
    lr = torch.tensor([[0.7, -0.3, 1.1], [0.4, 0.2, 0.0]])
    weight = torch.tensor([[0.0, 1.0, 0.4], [1.0, 0.0, 0.0]])
    k = normaliser(lr, weight, torch.tensor([3.0, 2.0]), kind="weights", level="sentence")
    assert k.tolist() == pytest.approx([3 / 4.4, 2 / 3])
    k = normaliser(lr, weight, torch.tensor([3.0, 2.0]), kind="ratio", level="sentence")
    assert k.tolist() == pytest.approx([1.5 / 1.64, 0.6 / 1.0])


def test_at_response_level_one_normaliser_serves_the_minibatch():
    lr, weight = torch.tensor([[0.6], [0.2], [0.4]]), torch.tensor([[1.0], [0.0], [0.5]])
    count = torch.ones(3)
    k = normaliser(lr, weight, count, kind="ratio", level="response")
    assert k.tolist() == pytest.approx([1.2 / 2.0] * 3)
    k = normaliser(lr, weight, count, kind="weights", level="response")
    assert k.tolist() == pytest.approx([3 / 4.5] * 3)


def test_weights_join_similarity_and_confidence():
    cosines, perplexities = [0.1, 0.3, 0.2], [1.0, 3.0, 5.0]
    assert weights(cosines, perplexities, alpha=0.5) == pytest.approx((0.5, 0.75, 0.25))
    assert weights(cosines, [], alpha=1.0) == pytest.approx((0.0, 1.0, 0.5))
    assert weights([], perplexities, alpha=0.0) == pytest.approx((1.0, 0.5, 0.0))


def test_a_metric_that_cannot_tell_sentences_apart_weighs_none():
    assert weights([0.2, 0.2], [4.0, 2.0], alpha=0.5) == pytest.approx((0.0, 0.5))


numbers = st.floats(-20, 20)


@given(st.lists(st.tuples(numbers, st.floats(0, 1)), min_size=1, max_size=8))
def test_the_normaliser_keeps_its_bounds_whatever_happens(segments):
    lr, weight = (list(column) for column in zip(*segments, strict=True))
    margin, chosen, rejected = gradients(lr, weight)
    assert math.isfinite(margin)
    # no chosen sentence is pushed away, and none gets more than twice DPO's share
    assert all(-2 * rejected - 1e-12 <= each <= 0 for each in chosen)


@given(st.lists(st.tuples(st.floats(0.01, 20), st.floats(0, 1)), min_size=1, max_size=8))
def test_where_all_sentences_moved_the_same_way_the_value_is_dpos(segments):
    lr, weight = (list(column) for column in zip(*segments, strict=True))
    for sign in (1, -1):
        margin, _, _ = gradients([sign * each for each in lr], weight)
        assert margin == pytest.approx(0.1 * (sign * sum(lr) - REJECTED))


def test_the_rate_falls_along_a_cosine_and_needs_no_memory():
    rates = [2.0 * warm_cosine(step, 4) for step in range(4)]
    assert rates == pytest.approx([2.0, 1 + math.sqrt(0.5), 1.0, 1 - math.sqrt(0.5)])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"beta": 0.0}, "beta is 0.0"),
        ({"minibatch": 0}, "minibatch is 0"),
        ({"perplexity": "service", "level": "token"}, 'choose level "sentence"'),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        Config(output_dir=tmp_path, data=DataConfig(format="world", limit=4), **changes)


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*_aspo.yaml")), ids=lambda path: path.name)
def test_every_recipe_is_a_configuration_of_the_papers_method(recipe):
    config = read_config(Config, recipe, [])
    assert (config.beta, config.alpha) == (0.1, 0.5)
    assert (config.loss, config.level, config.metrics) == ("aspo", "sentence", "S+P")
    assert recipe.stem.removesuffix("_aspo").replace("_", "-") in str(config.output_dir)


def test_the_recipe_for_llava_has_the_papers_numbers():
    config = read_config(Config, RECIPES / "llava15_7b_aspo.yaml", [])
    assert (config.policy.lora_rank, config.policy.lora_alpha) == (1024, 2048)
    assert (config.learning_rate, config.epochs) == (2e-6, 1)
    assert config.minibatch * config.accumulation == 10
    assert config.pairs.noise_step == 500
