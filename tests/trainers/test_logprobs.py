import math

import torch

from sightline_trainers.logprobs import (
    entropy,
    kl_divergence,
    mask_after_end,
    masked_mean,
    token_log_probs,
)


def softmax(row):
    total = sum(math.exp(each) for each in row)
    return [math.exp(each) / total for each in row]


def test_log_probs_entropy_and_divergence_equal_a_loop_over_the_vocabulary():
    torch.manual_seed(0)
    p_logits, q_logits = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    ids = torch.randint(0, 5, (2, 3))
    for b in range(2):
        for t in range(3):
            p, q = softmax(p_logits[b, t].tolist()), softmax(q_logits[b, t].tolist())
            chosen = math.log(p[int(ids[b, t])])
            spread = -sum(each * math.log(each) for each in p)
            divergence = sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
            assert abs(token_log_probs(p_logits, ids)[b, t].item() - chosen) < 1e-5
            assert abs(entropy(p_logits)[b, t].item() - spread) < 1e-5
            assert abs(kl_divergence(p_logits, q_logits)[b, t].item() - divergence) < 1e-5


def test_the_divergence_of_a_distribution_from_itself_is_zero_in_half_precision_too():
    logits = torch.randn(1, 4, 100).bfloat16()
    assert kl_divergence(logits, logits).tolist() == [[0.0] * 4]


def test_the_first_end_token_is_kept_and_all_after_it_are_masked():
    ids = torch.tensor([[5, 2, 5, 2], [5, 5, 5, 5], [9, 2, 2, 2]])
    assert mask_after_end(ids, (2, 9)).tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]


def test_a_masked_mean_leaves_the_rest_out_and_an_empty_one_is_zero():
    values = torch.tensor([[1.0, 3.0, 100.0]])
    assert masked_mean(values, torch.tensor([[1, 1, 0]])).item() == 2.0
    assert masked_mean(values, torch.zeros(1, 3)).item() == 0.0
