"""Chosen and rejected responses as token ids, and their log-probabilities. Knows no method.

Shapes: N pairs, B = 2 N responses, T their tokens, padded on the right.
"""
# ruff: noqa: N806 - a tensor's name ends in its shape

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sightline_trainers.logprobs import token_log_probs
from sightline_trainers.policy import Policy
from sightline_trainers.prompts import Prompt, collate


@dataclass(frozen=True, slots=True)
class Preference:
    """Two responses to one row's prompt, as sampled ids, end token included.

    Attributes:
        row: the number of the row.
        chosen: the better response.
        rejected: the worse one.
        chosen_reference: its summed log-probability under the reference, nats.
        rejected_reference: the same of the worse one.
    """

    row: int
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    chosen_reference: float
    rejected_reference: float


def completion_log_probs(
    policy: Policy,
    prompts: Sequence[Prompt],
    completions: Sequence[Sequence[int]],
    *,
    model: nn.Module | None = None,
) -> Tensor:
    """The summed log-probability of each completion given its prompt, (B,), nats.

    Args:
        policy: gives the prompt format and the device.
        prompts: one per completion.
        completions: the ids as they were sampled; none may be empty.
        model: runs the forward pass instead of the policy (its wrapper with several processes).
    """
    device = next(policy.parameters()).device
    pad_id = policy.prompts.pad_id
    length = max(map(len, completions))
    padded = [[*ids, *[pad_id] * (length - len(ids))] for ids in completions]
    marks = [[1] * len(ids) + [0] * (length - len(ids)) for ids in completions]
    ids_BT = torch.tensor(padded, device=device)
    mask_BT = torch.tensor(marks, device=device)
    forward: Any = policy if model is None else model
    logits_BTV, _ = forward(collate(prompts, pad_id, device), ids_BT, mask_BT)
    return (token_log_probs(logits_BTV, ids_BT) * mask_BT).sum(1)


def summarise(
    records: Iterable[Mapping[str, Any]], n_rows: int
) -> tuple[list[Preference], dict[str, float]]:
    """The pairs of all records, in the order of rows, and what they are like on average.

    Raises:
        ValueError: there are not as many records as rows.
    """
    pairs: list[Preference] = []
    sums: Counter[str] = Counter()
    n_records = 0
    for record in records:
        n_records += 1
        if record["dropped"] is not None:
            continue
        chosen, rejected = record["chosen"], record["rejected"]
        ids = tuple(chosen["ids"]), tuple(rejected["ids"])
        pairs.append(Preference(record["row"], *ids, chosen["reference"], rejected["reference"]))
        for side, response in (("chosen", chosen), ("rejected", rejected)):
            sums[f"{side}_tokens"] += len(response["ids"])
            sums.update({f"{side}_{n}": response[n] for n in ("value", "image") if n in response})
    if n_records != n_rows:
        raise ValueError(
            f"the pairs' journals hold {n_records} of {n_rows} rows: put the missing ones back, or "
            "begin a new run"
        )
    pairs.sort(key=lambda pair: pair.row)
    means = {name: value / len(pairs) for name, value in sums.items()}
    return pairs, {"pairs": len(pairs), "dropped": 1 - len(pairs) / n_rows, **means}
