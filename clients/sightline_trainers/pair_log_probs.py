"""What policy and reference say of preference pairs, segment by segment. Knows ids; no reward.

Shapes: B pairs, T completion tokens, K segments of a chosen answer. Answers are padded on the
right; natural logarithms. Segment K, one past the last, stands for padding.
"""
# ruff: noqa: N803, N806, N815 - a tensor's name ends in its shape

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sightline_trainers.likelihood import token_likelihoods
from sightline_trainers.policy import Policy
from sightline_trainers.prompts import Prompt
from sightline_trainers.segments import Segments
from sightline_trainers.seva import Pair

_LARGEST_EXPONENT = 700.0
"""Of a perplexity, so that it stays finite in float64."""


@dataclass(frozen=True, slots=True)
class Case:
    """A pair as it is scored: with the clean image's inputs, and the chosen answer cut up."""

    pair: Pair
    prompt: Prompt
    segments: Segments


@dataclass(frozen=True, slots=True)
class PairLogProbs:
    """A minibatch of pairs under the policy, and relative to the reference.

    Attributes:
        lr_BK: log pi_theta - log pi_ref of each chosen segment, with gradient; 0 past the last.
        rejected_lr_B: the same of each whole rejected answer.
        logp_BK: log pi_theta of each chosen segment, without gradient.
        tokens_BK: tokens of each chosen segment.
    """

    lr_BK: Tensor
    rejected_lr_B: Tensor
    logp_BK: Tensor
    tokens_BK: Tensor

    def perplexities(self) -> list[list[float]]:
        """exp(-mean log-probability) of each chosen segment of each pair (ASPO, Eq. 9)."""
        surprise_BK = -self.logp_BK.double() / self.tokens_BK.clamp(min=1)
        # a policy that has diverged is for its loss to tell
        finite_BK = surprise_BK.nan_to_num(nan=_LARGEST_EXPONENT).clamp(max=_LARGEST_EXPONENT)
        ppl_BK: list[list[float]] = finite_BK.exp().tolist()
        n_segments: list[int] = (self.tokens_BK > 0).sum(1).tolist()
        return [row[:count] for row, count in zip(ppl_BK, n_segments, strict=True)]


def pair_log_probs(policy: Policy, trained: nn.Module, cases: Sequence[Case]) -> PairLogProbs:
    """Scores the chosen and the rejected answers of B pairs in one batch.

    Args:
        policy: gives the reference, with its adapter off.
        trained: the policy, or what wraps it for training on several devices.
        cases: the pairs.
    """
    pairs, prompts = [case.pair for case in cases], [case.prompt for case in cases] * 2
    answers = [pair.chosen_ids for pair in pairs] + [pair.rejected_ids for pair in pairs]
    with torch.no_grad(), policy.reference():
        ref_2BT, _ = token_likelihoods(policy, prompts, answers)
    logp_2BT, mask_2BT = token_likelihoods(policy, prompts, answers, model=trained)
    lr_2BT = logp_2BT - ref_2BT
    n, n_segments = len(cases), max(len(case.segments.pieces) for case in cases)
    segment_BT = torch.full(mask_2BT[:n].shape, n_segments)
    for row, case in enumerate(cases):
        of_token = case.segments.of_token
        segment_BT[row, : len(of_token)] = torch.tensor(of_token)
    segment_BT = segment_BT.to(mask_2BT.device)
    return PairLogProbs(
        segment_sums(lr_2BT[:n], segment_BT, n_segments),
        lr_2BT[n:].sum(1),
        segment_sums(logp_2BT[:n].detach(), segment_BT, n_segments),
        segment_sums(mask_2BT[:n].float(), segment_BT, n_segments),
    )


def segment_sums(values_BT: Tensor, segment_BT: Tensor, n_segments: int) -> Tensor:
    """The sum over each segment's tokens, (B, K)."""
    sums = values_BT.new_zeros(values_BT.shape[0], n_segments + 1)
    return sums.scatter_add(1, segment_BT, values_BT)[:, :n_segments]
