"""How likely a policy finds completions: their tokens, and all of each. Knows ids; no method.

Shapes: B completions, T their tokens, padded on the right. Natural logarithms.
"""
# ruff: noqa: N806 - a tensor's name ends in its shape

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from sightline_trainers.logprobs import padded, token_log_probs
from sightline_trainers.policy import Policy
from sightline_trainers.prompts import Prompt, collate


def token_likelihoods(
    policy: Policy,
    prompts: Sequence[Prompt],
    completions: Sequence[Sequence[int]],
    *,
    model: nn.Module | None = None,
) -> tuple[Tensor, Tensor]:
    """The log-probability of each token given the prompt and the tokens before it, and the mask.

    Args:
        policy: gives the prompt format and the device.
        prompts: one per completion.
        completions: the ids as they were sampled.
        model: runs the forward pass instead of the policy (its wrapper with several processes).

    Returns:
        Log-probabilities, 0 on padding, and the mask, both (B, T).
    """
    device = next(policy.parameters()).device
    pad_id = policy.prompts.pad_id
    ids_BT, mask_BT = padded(completions, pad_id, device)
    forward: Any = policy if model is None else model
    logits_BTV, _ = forward(collate(prompts, pad_id, device), ids_BT, mask_BT)
    return token_log_probs(logits_BTV, ids_BT) * mask_BT, mask_BT


def completion_log_probs(
    policy: Policy,
    prompts: Sequence[Prompt],
    completions: Sequence[Sequence[int]],
    *,
    model: nn.Module | None = None,
) -> Tensor:
    """The summed log-probability of each completion, (B,), nats; arguments as above."""
    logp_BT, _ = token_likelihoods(policy, prompts, completions, model=model)
    return logp_BT.sum(1)
