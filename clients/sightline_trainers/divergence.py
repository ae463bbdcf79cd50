"""How far a prompt moves a model's next-token distributions (SVP Eq. 5, 6). Knows no reward.

Shapes: B sequences, T completion tokens, D the width of the head's input, V words. The logits of
two prompts over a large vocabulary would not fit beside each other (2 B T V floats), so the inputs
of the head are kept instead and the head is applied to some positions at a time.
"""
# ruff: noqa: N803, N806 - a tensor's name ends in its shape

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from sightline_trainers.logprobs import padded
from sightline_trainers.policy import Policy
from sightline_trainers.prompts import Prompt, collate

Head = Callable[[Tensor], Tensor]
_AGREES = 1e-2
"""Largest difference of a probability that half precision may make between two ways to it."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What separates q from p along one completion, sums over its tokens in nats.

    Attributes:
        S: the sum of KL(q_t || p_t); at least 0, and 0 exactly where q is p.
        Delta: the sum of H(p_t) - H(q_t); may be negative.
        log_ratio: log q(z) - log p(z) of the completion itself, Eq. 4.
        n_tokens: the tokens that were summed over.
    """

    S: float
    Delta: float
    log_ratio: float
    n_tokens: int


def gaps_at(
    q_BTD: Tensor, p_BTD: Tensor, head: Head, ids_BT: Tensor, *, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """KL(q || p), H(p) - H(q) and log q - log p of the id at each position, three of (B, T).

    Exact over the vocabulary, in float32; `chunk` positions at a time, which needs about
    5 * B * chunk * V floats and changes nothing.
    """
    kls: list[Tensor] = []
    drops: list[Tensor] = []
    ratios: list[Tensor] = []
    for start in range(0, ids_BT.shape[1], chunk):
        part = slice(start, start + chunk)
        log_q = head(q_BTD[:, part]).float().log_softmax(-1)
        log_p = head(p_BTD[:, part]).float().log_softmax(-1)
        difference = log_q - log_p
        q = log_q.exp()
        kls.append((q * difference).sum(-1).clamp(min=0))
        drops.append((q * log_q).sum(-1) - (log_p.exp() * log_p).sum(-1))
        ratios.append(difference.gather(-1, ids_BT[:, part, None])[..., 0])
    return torch.cat(kls, 1), torch.cat(drops, 1), torch.cat(ratios, 1)


@contextmanager
def captured_head_inputs(head: nn.Module) -> Generator[list[Tensor]]:
    """Keeps what the head is given, inside the block; the head itself then sees no position."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor]:
        del module
        kept.append(arguments[0])
        return (arguments[0][:, :0],)

    handle = head.register_forward_pre_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()


class GapMeter:
    """Measures gaps with a policy as it is.

    Args:
        policy: gives both distributions.
        minibatch: completions per forward pass.
        chunk: positions to which the head is applied at a time.
    """

    def __init__(self, policy: Policy, *, minibatch: int, chunk: int) -> None:
        self._policy = policy
        self._minibatch = minibatch
        self._chunk = chunk
        self._head: nn.Module = cast(Any, policy.model).get_output_embeddings()
        special = set(policy.prompts.tokenizer.all_special_ids) - set(policy.end_ids)
        self._not_counted = sorted(special)
        self._checked = False

    @torch.no_grad()
    def measure(
        self,
        q_prompts: Sequence[Prompt],
        p_prompts: Sequence[Prompt],
        completions: Sequence[Sequence[int]],
    ) -> list[Gap]:
        """The gap of each completion (its ids as sampled) between its two prompts.

        The end token counts; other special tokens do not.

        Raises:
            ValueError: the model does more with its head's output than to take it for logits.
        """
        gaps: list[Gap] = []
        for start in range(0, len(completions), self._minibatch):
            part = slice(start, start + self._minibatch)
            gaps += self._measure(q_prompts[part], p_prompts[part], completions[part])
        return gaps

    def _measure(
        self,
        q_prompts: Sequence[Prompt],
        p_prompts: Sequence[Prompt],
        completions: Sequence[Sequence[int]],
    ) -> list[Gap]:
        pad_id = self._policy.prompts.pad_id
        device = next(self._policy.model.parameters()).device
        ids_BT, mask_BT = padded(completions, pad_id, device)
        q_BTD = self._hidden(collate(q_prompts, pad_id, device), ids_BT, mask_BT)
        p_BTD = self._hidden(collate(p_prompts, pad_id, device), ids_BT, mask_BT)
        columns = gaps_at(q_BTD, p_BTD, self._head, ids_BT, chunk=self._chunk)
        counted_BT = mask_BT * ~torch.isin(ids_BT, torch.tensor(self._not_counted, device=device))
        sums = [(column.double() * counted_BT).sum(1).tolist() for column in columns]
        lengths = counted_BT.sum(1).tolist()
        return [Gap(*values) for values in zip(*sums, lengths, strict=True)]

    def _hidden(self, inputs: Mapping[str, Tensor], ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """What the head turns into the prediction of each completion token, (B, T, D)."""
        with captured_head_inputs(self._head) as kept:
            self._policy(inputs, ids_BT, mask_BT)
        [whole] = kept
        hidden_BTD = whole[:, -(ids_BT.shape[1] + 1) : -1]
        if not self._checked:
            self._check(inputs, ids_BT, mask_BT, hidden_BTD)
        return hidden_BTD

    def _check(
        self, inputs: Mapping[str, Tensor], ids_BT: Tensor, mask_BT: Tensor, hidden_BTD: Tensor
    ) -> None:
        """Once: whether the head's output is what the model predicts with."""
        logits_BTV, _ = self._policy(inputs, ids_BT, mask_BT)
        mine = self._head(hidden_BTD[:, :1]).float().log_softmax(-1)
        theirs = logits_BTV[:, :1].float().log_softmax(-1)
        difference = (mine.exp() - theirs.exp()).abs().max().item()
        if difference > _AGREES:
            raise ValueError(
                "policy.model changes its logits after the output head (by soft-capping or "
                f"scaling; probabilities differ by {difference:.2g}), which SVP's scores would "
                "miss: choose another model"
            )
        self._checked = True
