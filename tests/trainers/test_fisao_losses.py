"""The losses against slow references, and the way their gradients point."""

import math

import pytest
import torch

from sightline_trainers.fisao import penalised, ppo_loss, standardised
from sightline_trainers.gae import generalised_advantages, value_loss
from sightline_trainers.rollout import Scores

MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])


@pytest.fixture
def numbers():
    torch.manual_seed(3)
    logp, old = -3 * torch.rand(2, 4), -3 * torch.rand(2, 4)
    return logp.requires_grad_(), old, torch.randn(2, 4)


def slow_loss(logp, old, advantage, mask, clip, literal):
    total, count = 0.0, 0
    for b in range(logp.shape[0]):
        for t in range(logp.shape[1]):
            if not mask[b, t]:
                continue
            ratio = math.exp(logp[b, t].item() - old[b, t].item())
            clipped = min(max(ratio, 1 - clip), 1 + clip)
            value = advantage[b, t].item()
            total += min(ratio, clipped) * value if literal else min(ratio * value, clipped * value)
            count += 1
    return -total / count


@pytest.mark.parametrize("literal", [False, True])
def test_the_loss_equals_a_slow_one(numbers, literal):
    logp, old, advantage = numbers
    loss, _ = ppo_loss(
        logp, old, advantage, MASK, clip=0.2, literal_clip=literal, n_tokens=MASK.sum()
    )
    assert math.isclose(
        loss.item(), slow_loss(logp, old, advantage, MASK, 0.2, literal), rel_tol=1e-5
    )


def gradient(ratio, advantage, *, literal=False):
    """d loss / d log pi of one token."""
    old = torch.zeros(1, 1)
    logp = torch.tensor([[math.log(ratio)]], requires_grad=True)
    mask = torch.ones(1, 1)
    loss, _ = ppo_loss(
        logp,
        old,
        torch.tensor([[advantage]]),
        mask,
        clip=0.2,
        literal_clip=literal,
        n_tokens=mask.sum(),
    )
    loss.backward()
    return logp.grad.item()


def test_a_good_token_becomes_likelier_and_a_bad_one_less_likely():
    assert gradient(1.0, 0.5) == pytest.approx(-0.5)
    assert gradient(1.0, -0.5) == pytest.approx(0.5)


def test_a_token_that_has_moved_far_enough_is_left_alone():
    assert gradient(1.3, 0.5) == 0.0
    assert gradient(0.7, -0.5) == 0.0


def test_a_token_that_moved_the_wrong_way_is_pulled_back():
    assert gradient(1.3, -0.5) == pytest.approx(0.65)
    assert gradient(0.7, 0.5) == pytest.approx(-0.35)


def test_the_printed_form_lets_a_bad_token_go_on_falling_and_never_pulls_it_back():
    assert gradient(0.7, -0.5, literal=True) == pytest.approx(0.35)
    assert gradient(1.3, -0.5, literal=True) == 0.0


def test_padding_has_no_gradient_whatever_stands_there(numbers):
    _, old, advantage = numbers
    logp = old.clone()
    logp[0, 3] = 80.0
    logp.requires_grad_()
    loss, metrics = ppo_loss(
        logp, old, advantage, MASK, clip=0.2, literal_clip=False, n_tokens=MASK.sum()
    )
    loss.backward()
    assert logp.grad[0, 3].item() == 0.0
    assert metrics["change"].item() == 0.0


def test_the_share_of_clipped_tokens_and_the_change_are_those_of_the_definition(numbers):
    logp, old, advantage = numbers
    _, metrics = ppo_loss(
        logp, old, advantage, MASK, clip=0.2, literal_clip=False, n_tokens=MASK.sum()
    )
    log_ratios = [(logp - old)[b, t].item() for b in range(2) for t in range(4) if MASK[b, t]]
    far = [abs(math.exp(each) - 1) > 0.2 for each in log_ratios]
    change = [math.exp(each) - 1 - each for each in log_ratios]
    assert metrics["clip_share"].item() == pytest.approx(sum(far) / len(far))
    assert metrics["change"].item() == pytest.approx(sum(change) / len(change), rel=1e-5)


def scores(old, ref, forward_kl):
    return Scores(old, ref, forward_kl, torch.zeros_like(old), torch.zeros_like(old))


def test_the_papers_penalty_falls_on_rewarded_tokens_alone():
    reward = torch.tensor([[0.0, 0.5, -0.25, 0.0], [0.0, 0.0, 1.0, 0.0]])
    forward_kl = torch.full((2, 4), 0.1)
    given = scores(torch.randn(2, 4), torch.randn(2, 4), forward_kl)
    result = penalised(reward, given, MASK, xi=2.0, scope="paper")
    assert torch.allclose(result, torch.tensor([[0.0, 0.3, -0.45, 0.0], [0.0, 0.0, 0.8, 0.0]]))


def test_the_full_penalty_falls_on_every_response_token():
    old, ref = torch.randn(2, 4), torch.randn(2, 4)
    reward = torch.tensor([[0.0, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    result = penalised(reward, scores(old, ref, torch.zeros(2, 4)), MASK, xi=0.5, scope="all")
    for b in range(2):
        for t in range(4):
            wanted = (reward - 0.5 * (old - ref))[b, t].item() if MASK[b, t] else 0.0
            assert result[b, t].item() == pytest.approx(wanted, abs=1e-6)


def test_the_full_penalty_is_the_gradient_of_the_reverse_divergence():
    """Its expected policy gradient is that of KL(pi || pi_ref), by differences over one softmax."""
    torch.manual_seed(0)
    logits, ref_logits = torch.randn(6).double(), torch.randn(6).double()
    p, log_ref = logits.softmax(0), ref_logits.log_softmax(0)
    wanted = torch.func.grad(lambda z: (z.softmax(0) * (z.log_softmax(0) - log_ref)).sum())(logits)
    advantage = -(p.log() - log_ref)  # xi = 1, no reward
    score_function = torch.eye(6).double() - p  # d log p(a) / d logits, one row per a
    expected = -(p * advantage) @ score_function
    assert torch.allclose(expected, wanted, atol=1e-10)


def slow_gae(rewards, values, gae_lambda):
    """The definition: the sum over l of lambda^l delta_{t+l}, with gamma = 1."""
    following = [*values[1:], 0.0]
    deltas = [r + n - v for r, n, v in zip(rewards, following, values, strict=True)]
    count = len(deltas)
    return [sum(gae_lambda ** (s - t) * deltas[s] for s in range(t, count)) for t in range(count)]


def test_advantages_with_a_critic_equal_the_definition_and_know_nothing_of_padding():
    reward, value = torch.randn(2, 4) * MASK, torch.randn(2, 4)
    advantage, returns = generalised_advantages(reward, value, MASK, gae_lambda=0.9)
    for b, length in enumerate((3, 4)):
        wanted = slow_gae(reward[b, :length].tolist(), value[b, :length].tolist(), 0.9)
        assert advantage[b, :length].tolist() == pytest.approx(wanted, abs=1e-5)
        sums = [a + v for a, v in zip(wanted, value[b, :length].tolist(), strict=True)]
        assert returns[b, :length].tolist() == pytest.approx(sums, abs=1e-5)
    assert advantage[0, 3].item() == returns[0, 3].item() == 0.0


def test_the_value_loss_pulls_values_towards_the_returns():
    value = torch.tensor([[1.0, 1.0, 1.0, 1.0]], requires_grad=True)
    loss = value_loss(
        value, torch.tensor([[3.0, 0.0, 1.0, 9.0]]), MASK[:1], n_tokens=MASK[:1].sum()
    )
    loss.backward()
    assert loss.item() == pytest.approx((4 + 1 + 0) / 2 / 3)
    assert value.grad.tolist()[0] == pytest.approx([-2 / 3, 1 / 3, 0.0, 0.0])


def test_sentence_scores_are_standardised_over_graded_tokens_alone():
    score = torch.tensor([[20.0, 0.0, 24.0], [28.0, 0.0, 0.0]])
    graded = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    deviation = math.sqrt(32 / 3)
    result = standardised(score, graded, lambda total: total)
    wanted = [-4 / (2 * deviation), 0.0, 0.0, 4 / (2 * deviation), 0.0, 0.0]
    assert result.flatten().tolist() == pytest.approx(wanted, abs=1e-5)


def test_equal_sentence_scores_earn_nothing():
    graded = torch.ones(1, 2)
    result = standardised(torch.tensor([[21.5, 21.5]]), graded, lambda total: total)
    assert result.abs().max().item() < 1e-3
