"""Advantages with a critic, an option of FiSAO. Knows tensors (B, T), padded on the right."""
# ruff: noqa: N803, N806 - a tensor's name ends in its shape

import torch
from torch import Tensor


def generalised_advantages(
    reward_BT: Tensor, value_BT: Tensor, mask_BT: Tensor, *, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """GAE with gamma = 1 (Schulman et al., 2016): advantages and returns, (B, T), 0 on padding."""
    advantage_BT = torch.zeros_like(reward_BT)
    following_B = next_value_B = torch.zeros_like(reward_BT[:, 0])
    for t in reversed(range(reward_BT.shape[1])):
        delta_B = reward_BT[:, t] + next_value_B - value_BT[:, t]
        following_B = (delta_B + gae_lambda * following_B) * mask_BT[:, t]
        next_value_B = value_BT[:, t] * mask_BT[:, t]
        advantage_BT[:, t] = following_B
    return advantage_BT, (advantage_BT + value_BT) * mask_BT


def value_loss(value_BT: Tensor, return_BT: Tensor, mask_BT: Tensor, *, n_tokens: Tensor) -> Tensor:
    """Half the squared error of the values, divided by `n_tokens`."""
    return 0.5 * ((value_BT - return_BT) ** 2 * mask_BT).sum() / n_tokens
