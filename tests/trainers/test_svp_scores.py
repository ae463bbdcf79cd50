"""S, Delta and the loss against slow references, and the way the head's inputs are captured."""
# ruff: noqa: N806 - a tensor's name ends in its shape

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_trainers import svp
from sightline_trainers.data import DataConfig, load_image, read_rows
from sightline_trainers.divergence import GapMeter, captured_head_inputs, gaps_at
from sightline_trainers.logprobs import padded, token_log_probs
from sightline_trainers.policy import PolicyConfig, load_policy
from sightline_trainers.prompts import collate


@pytest.fixture(scope="module")
def policy(tiny_llava):
    loaded = load_policy(PolicyConfig(model=str(tiny_llava), lora_rank=4, lora_alpha=8), seed=0)
    return loaded.eval()


@pytest.fixture
def numbers():
    torch.manual_seed(1)
    head = torch.nn.Linear(5, 11)
    return torch.randn(2, 7, 5), torch.randn(2, 7, 5), head, torch.randint(0, 11, (2, 7))


def brute_force(q_logits, p_logits, token):
    """KL(q || p), H(p) - H(q) and log q - log p, one word after another in double precision."""
    q_sum = sum(math.exp(x) for x in q_logits)
    p_sum = sum(math.exp(x) for x in p_logits)
    kl = drop = 0.0
    for x, y in zip(q_logits, p_logits, strict=True):
        q, p = math.exp(x) / q_sum, math.exp(y) / p_sum
        kl += q * (math.log(q) - math.log(p))
        drop += q * math.log(q) - p * math.log(p)
    ratio = q_logits[token] - math.log(q_sum) - p_logits[token] + math.log(p_sum)
    return kl, drop, ratio


def test_s_and_delta_are_the_sums_over_the_whole_vocabulary(numbers):
    q, p, head, ids = numbers
    with torch.no_grad():
        columns = gaps_at(q, p, head, ids, chunk=100)
        q_logits, p_logits = head(q).double(), head(p).double()
    for b in range(2):
        for t in range(7):
            wanted = brute_force(q_logits[b, t].tolist(), p_logits[b, t].tolist(), ids[b, t].item())
            found = [column[b, t].item() for column in columns]
            assert found == pytest.approx(wanted, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("chunk", [1, 2, 3, 6, 7, 8])
def test_the_size_of_the_chunks_changes_nothing(numbers, chunk):
    q, p, head, ids = numbers
    whole = gaps_at(q, p, head, ids, chunk=7)
    parts = gaps_at(q, p, head, ids, chunk=chunk)
    for one, other in zip(whole, parts, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, atol=1e-6)


logits = st.lists(st.floats(-20, 20), min_size=6, max_size=6)


@settings(max_examples=60, deadline=None)
@given(q=logits, p=logits)
def test_s_is_never_negative_and_the_expected_ratio(q, p):
    ids = torch.arange(6)[:, None]
    q_rows, p_rows = torch.tensor([[q]] * 6), torch.tensor([[p]] * 6)
    kl, _, ratio = gaps_at(q_rows, p_rows, torch.nn.Identity(), ids, chunk=1)
    assert (kl >= 0).all()
    expected = (torch.tensor(q).softmax(-1) * ratio[:, 0]).sum().item()
    assert kl[0, 0].item() == pytest.approx(max(0.0, expected), abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(q=logits)
def test_s_and_delta_are_exactly_zero_where_the_two_agree(q):
    rows = torch.tensor([[q]])
    kl, drop, ratio = gaps_at(rows, rows, torch.nn.Identity(), torch.zeros(1, 1).long(), chunk=1)
    assert (kl.item(), drop.item(), ratio.item()) == (0.0, 0.0, 0.0)


@settings(max_examples=40, deadline=None)
@given(q=logits, p=logits)
def test_s_is_zero_nowhere_else(q, p):
    q_p, p_p = (np.exp(x - np.logaddexp.reduce(x)) for x in (np.array(q), np.array(p)))
    distance = np.abs(q_p - p_p).sum()
    rows = (torch.tensor([[each]]) for each in (q, p))
    kl, _, _ = gaps_at(*rows, torch.nn.Identity(), torch.zeros(1, 1).long(), chunk=1)
    assert kl.item() >= distance**2 / 2 - 1e-4  # Pinsker


def test_delta_is_positive_where_the_context_makes_the_model_sure_and_negative_elsewhere():
    sure, unsure = torch.tensor([[[9.0, 0.0, 0.0]]]), torch.tensor([[[0.0, 0.0, 0.0]]])
    ids, same = torch.zeros(1, 1).long(), torch.nn.Identity()
    _, drop, _ = gaps_at(sure, unsure, same, ids, chunk=1)
    _, rise, _ = gaps_at(unsure, sure, same, ids, chunk=1)
    assert 0 < drop.item() < math.log(3)
    assert rise.item() == pytest.approx(-drop.item())


def two_prompts(policy, pictures):
    rows = read_rows(DataConfig(path=pictures))[:3]
    images = [load_image(row)[0] for row in rows]
    questions = ["Describe the image.", "cat [0.10, 0.20, 0.30, 0.40] Describe it.", "A dog. What?"]
    p = [policy.prompts.encode(image, "Describe the image.") for image in images]
    q = [policy.prompts.encode(image, text) for image, text in zip(images, questions, strict=True)]
    return q, p


def completions(policy):
    end = policy.end_ids[0]
    return [[20, 21, 22, 23, end], [30, end], [40, 41, 42, 43, 44, 45, end]]


def test_the_meter_measures_what_the_models_own_logits_say(policy, pictures):
    q, p = two_prompts(policy, pictures)
    answers = completions(policy)
    gaps = GapMeter(policy, minibatch=2, chunk=3).measure(q, p, answers)
    for one_q, one_p, ids, gap in zip(q, p, answers, gaps, strict=True):
        ids_BT, mask_BT = padded([ids], 0, torch.device("cpu"))
        with torch.no_grad():
            rows = [
                policy(collate([prompt], 0, torch.device("cpu")), ids_BT, mask_BT)[0][0].double()
                for prompt in (one_q, one_p)
            ]
        each = [
            brute_force(rows[0][t].tolist(), rows[1][t].tolist(), token)
            for t, token in enumerate(ids)
        ]
        wanted = [sum(column) for column in zip(*each, strict=True)]
        assert [gap.S, gap.Delta, gap.log_ratio] == pytest.approx(wanted, rel=1e-3, abs=1e-5)
        assert gap.n_tokens == len(ids)
    assert gaps[0].S < 1e-5  # both prompts are the same, their padding is not
    assert gaps[1].S > 1e-3


def test_the_log_ratio_is_that_of_the_two_log_probabilities(policy, pictures):
    q, p = two_prompts(policy, pictures)
    answers = completions(policy)
    [gap] = GapMeter(policy, minibatch=4, chunk=64).measure(q[1:2], p[1:2], answers[1:2])
    ids_BT, mask_BT = padded(answers[1:2], 0, torch.device("cpu"))
    with torch.no_grad():
        sums = [
            token_log_probs(
                policy(collate(part, 0, torch.device("cpu")), ids_BT, mask_BT)[0], ids_BT
            ).sum()
            for part in (q[1:2], p[1:2])
        ]
    assert gap.log_ratio == pytest.approx((sums[0] - sums[1]).item(), abs=1e-5)


def test_the_end_token_counts_and_other_special_tokens_do_not(policy, pictures):
    q, p = two_prompts(policy, pictures)
    begin, end = policy.prompts.tokenizer.bos_token_id, policy.end_ids[0]
    meter = GapMeter(policy, minibatch=1, chunk=64)
    [gap] = meter.measure(q[1:2], p[1:2], [[20, begin, 22, end]])
    assert gap.n_tokens == 3


def test_a_captured_head_computes_nothing_and_is_itself_again_afterwards():
    head = torch.nn.Linear(3, 50_000)
    hidden = torch.randn(2, 4, 3)
    with captured_head_inputs(head) as kept:
        assert head(hidden).shape == (2, 0, 50_000)
    assert len(kept) == 1
    assert torch.equal(kept[0], hidden)
    assert head(hidden).shape == (2, 4, 50_000)


def test_a_head_is_itself_again_after_an_error():
    head = torch.nn.Linear(3, 4)
    with pytest.raises(RuntimeError, match="stop"), captured_head_inputs(head):
        raise RuntimeError("stop")
    assert head(torch.zeros(1, 2, 3)).shape == (1, 2, 4)


def test_a_model_that_changes_its_logits_after_the_head_is_refused(policy, pictures, monkeypatch):
    original = type(policy).forward

    def capped(self, *arguments):
        logits_BTV, values = original(self, *arguments)
        return torch.tanh(logits_BTV * 50) * 5, values

    q, p = two_prompts(policy, pictures)
    monkeypatch.setattr(type(policy), "forward", capped)
    with pytest.raises(ValueError, match="changes its logits"):
        GapMeter(policy, minibatch=1, chunk=8).measure(q[:1], p[:1], completions(policy)[:1])


def test_completions_are_filled_up_on_the_right():
    ids, mask = padded([[5, 6], [7]], 9, torch.device("cpu"))
    assert ids.tolist() == [[5, 6], [7, 9]]
    assert mask.tolist() == [[1, 1], [1, 0]]


def test_the_gradient_is_that_of_transformers_own_loss(policy, pictures):
    _, [prompt, *_] = two_prompts(policy, pictures)
    ids_BT, mask_BT = padded([[20, 21, 22, 2]], 0, torch.device("cpu"))
    logits_BTV, _ = policy(prompt, ids_BT, mask_BT)
    svp.sft_loss(token_log_probs(logits_BTV, ids_BT), mask_BT, divisor=torch.tensor(4.0)).backward()
    trained = [each for each in policy.parameters() if each.requires_grad]
    mine = [each.grad.clone() for each in trained]
    policy.zero_grad()
    policy.model(
        input_ids=torch.cat([prompt["input_ids"], ids_BT], 1),
        attention_mask=torch.cat([prompt["attention_mask"], mask_BT], 1),
        pixel_values=prompt["pixel_values"],
        labels=torch.cat([torch.full_like(prompt["input_ids"], -100), ids_BT], 1),
    ).loss.backward()
    assert sum(each.abs().sum().item() for each in mine) > 0
    for one, each in zip(mine, trained, strict=True):
        assert torch.allclose(one, each.grad, atol=1e-6)
    policy.zero_grad()


def test_sequences_may_count_alike_whatever_their_length():
    logp_BT = torch.tensor([[-1.0, -2.0, 7.0], [-3.0, -1.0, -1.0]])
    mask_BT = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert svp.sft_loss(logp_BT, mask_BT, divisor=torch.tensor(5.0)).item() == pytest.approx(1.6)
    assert svp.sft_loss(logp_BT, mask_BT, divisor=torch.tensor(2.0)).item() == pytest.approx(4.0)
