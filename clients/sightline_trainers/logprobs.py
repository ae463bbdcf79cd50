"""What a model's logits say of a completion. Knows torch; knows no model, method or reward.

Shapes: B sequences, T completion tokens, V words of the vocabulary. A completion is padded on the
right and its mask is 1 on its tokens, the end token included, and 0 on padding. Natural logarithms.
"""
# ruff: noqa: N803, N806 - a tensor's name ends in its shape

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def token_log_probs(logits_BTV: Tensor, ids_BT: Tensor) -> Tensor:
    """log pi(y_t | x, y_<t) of each token, (B, T), in float32."""
    logits = logits_BTV.float()
    chosen = logits.gather(-1, ids_BT[..., None])[..., 0]
    return chosen - logits.logsumexp(-1)


def entropy(logits_BTV: Tensor) -> Tensor:
    """The entropy of each next-token distribution, (B, T), in nats."""
    log_p = logits_BTV.float().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def kl_divergence(p_logits_BTV: Tensor, q_logits_BTV: Tensor) -> Tensor:
    """KL(p || q) over the vocabulary at each position, (B, T), in nats, at least 0."""
    log_p = p_logits_BTV.float().log_softmax(-1)
    log_q = q_logits_BTV.float().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).clamp(min=0)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of the values where the mask is 1; 0 where it is nowhere."""
    mask = mask.to(values.dtype)
    return (values * mask).sum() / mask.sum().clamp(min=1)


def padded(
    completions: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Ids and mask of completions, both (B, T) int64, filled up on the right."""
    rows = [torch.tensor(each, dtype=torch.long) for each in completions]
    ids_BT = pad_sequence(rows, batch_first=True, padding_value=pad_id)
    mask_BT = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return ids_BT.to(device), mask_BT.to(device)


def mask_after_end(ids_BT: Tensor, end_ids: tuple[int, ...]) -> Tensor:
    """1 up to and including the first end token of each row, 0 after it, (B, T), int64."""
    ends = torch.isin(ids_BT, torch.tensor(end_ids, device=ids_BT.device))
    return ((ends.cumsum(1) - ends.long()) == 0).long()
