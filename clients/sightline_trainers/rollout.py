"""Completions as they were sampled, and their log-probabilities. Knows ids and masks; no reward.

Shapes: B rows, T completion tokens, padded on the right; mask 1 on tokens, the end token included.
"""
# ruff: noqa: N803, N806, N815 - a tensor's name ends in its shape

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from sightline import Image
from sightline_trainers.data import Row, load_image
from sightline_trainers.logprobs import entropy, kl_divergence, token_log_probs
from sightline_trainers.offsets import decode_with_offsets
from sightline_trainers.policy import Policy, Sampling
from sightline_trainers.prompts import Prompt, collate
from sightline_trainers.rewards import Response

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Completions:
    """Sampled completions of B rows.

    Attributes:
        prompts: each row's inputs.
        ids_BT: sampled ids, never tokenised again.
        mask_BT: 1 on tokens, 0 on padding, int64.
        responses: each row's text, with the range of characters of each id.
    """

    prompts: tuple[Prompt, ...]
    ids_BT: Tensor
    mask_BT: Tensor
    responses: tuple[Response, ...]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [int(length) for length in self.mask_BT.sum(1).tolist()]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of completions as a model's input; T is their longest completion."""

    rows: list[int]
    inputs: dict[str, Tensor]
    ids_BT: Tensor
    mask_BT: Tensor

    def of(self, values_BT: Tensor) -> Tensor:
        """The part of a (B, T) tensor over all completions that belongs to this batch."""
        return values_BT[self.rows, : self.ids_BT.shape[1]]


def complete(
    policy: Policy, rows: Sequence[Row], sampling: Sampling, seeds: Sequence[int]
) -> Completions:
    """Samples one completion per row.

    Raises:
        ValueError: an image cannot be read.
    """
    loaded = [load_image(row) for row in rows]
    prompts = tuple(
        policy.prompts.encode(image, row.prompt)
        for row, (image, _) in zip(rows, loaded, strict=True)
    )
    ids_BT, mask_BT = policy.sample(prompts, sampling, seeds)
    responses: list[Response] = []
    for row, (_, data), ids, mask in zip(rows, loaded, ids_BT, mask_BT, strict=True):
        text, offsets = decode_with_offsets(policy.prompts.decode, ids[mask == 1].tolist())
        responses.append(Response(row.origin, Image(data), text, offsets))
    return Completions(prompts, ids_BT, mask_BT, tuple(responses))


@dataclass(frozen=True, slots=True)
class Scores:
    """What the policy says of completions, each (B, T) float32, 0 on padding.

    Attributes:
        old_BT: log-probabilities of the ids under the policy as it is.
        ref_BT: the same with the adapter off.
        forward_kl_BT: KL(reference || policy) over the vocabulary at each token, nats.
        value_BT: the value head's values, 0 without one.
        entropy_BT: the entropy of the policy at each token, nats.
    """

    old_BT: Tensor
    ref_BT: Tensor
    forward_kl_BT: Tensor
    value_BT: Tensor
    entropy_BT: Tensor


@torch.no_grad()
def score(policy: Policy, y: Completions, *, minibatch: int, temperature: float = 1.0) -> Scores:
    """Scores completions in batches, under the distribution that was sampled from."""
    columns = [torch.zeros(y.ids_BT.shape, device=y.ids_BT.device) for _ in range(5)]
    for rows in cut(range(len(y.responses)), minibatch):
        batch = take(y, rows, policy.prompts.pad_id)
        arguments = (batch.inputs, batch.ids_BT, batch.mask_BT)
        logits_BTV, value_BT = policy(*arguments)
        with policy.reference():
            ref_logits_BTV, _ = policy(*arguments)
        logits_BTV = logits_BTV / temperature
        ref_logits_BTV = ref_logits_BTV / temperature
        found = (
            token_log_probs(logits_BTV, batch.ids_BT),
            token_log_probs(ref_logits_BTV, batch.ids_BT),
            kl_divergence(ref_logits_BTV, logits_BTV),
            torch.zeros_like(columns[0][: len(rows)]) if value_BT is None else value_BT,
            entropy(logits_BTV),
        )
        for column, values in zip(columns, found, strict=True):
            length = batch.ids_BT.shape[1]
            column[batch.rows, :length] = values[:, :length].float() * batch.mask_BT
    return Scores(*columns)


def join(parts: Sequence[Completions], pad_id: int) -> Completions:
    """All rows of several completions, padded to one length."""
    length = max(part.ids_BT.shape[1] for part in parts)
    return Completions(
        tuple(prompt for part in parts for prompt in part.prompts),
        torch.cat([_padded(part.ids_BT, length, pad_id) for part in parts]),
        torch.cat([_padded(part.mask_BT, length, 0) for part in parts]),
        tuple(response for part in parts for response in part.responses),
    )


def take(completions: Completions, rows: Sequence[int], pad_id: int) -> Batch:
    """The given rows, cut at their longest completion."""
    rows = list(rows)
    mask_BT = completions.mask_BT[rows]
    length = max(1, int(mask_BT.sum(1).max()))
    inputs = collate([completions.prompts[row] for row in rows], pad_id, mask_BT.device)
    return Batch(rows, inputs, completions.ids_BT[rows, :length], mask_BT[:, :length])


def aligned(values: Sequence[Sequence[float]], completions: Completions) -> Tensor:
    """One number per token of each row as (B, T) float32, 0 on padding.

    Raises:
        ValueError: a row has another count than its tokens.
    """
    placed_BT = torch.zeros(completions.ids_BT.shape)
    for row, (numbers, length) in enumerate(zip(values, completions.lengths, strict=True)):
        if len(numbers) != length:
            raise ValueError(f"row {row} has {len(numbers)} numbers for {length} tokens")
        placed_BT[row, :length] = torch.tensor(numbers)
    return placed_BT.to(completions.ids_BT.device)


def cut(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive parts of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _padded(values: Tensor, length: int, fill: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, length - values.shape[1]), value=fill)
