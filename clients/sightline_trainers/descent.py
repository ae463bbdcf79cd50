"""One step down the gradient, refused where not finite. Knows optimisers; knows no method."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sightline_trainers import runs


def descend(
    run: runs.Run,
    optimiser: Any,  # noqa: ANN401 - accelerate's, which is untyped
    trained: Mapping[str, Tensor],
    *,
    losses: Tensor,
    rate: float,
    max_norm: float,
    step: int,
) -> float:
    """Takes one optimiser step and clears the gradients; gives the gradient's norm before the cut.

    Args:
        run: its processes decide together.
        optimiser: has one learning rate for all parameters.
        trained: the parameters by name, with gradients.
        losses: the step's losses in this process.
        rate: the learning rate.
        max_norm: the gradient is scaled down to this norm.
        step: the number of the step, for the message.

    Raises:
        DivergedError: a loss or the norm is not finite in some process; nothing has changed.
    """
    norm = run.accelerator.clip_grad_norm_(list(trained.values()), max_norm)
    assert isinstance(norm, Tensor)
    if run.any_failed(not bool(torch.isfinite(losses).all() and torch.isfinite(norm))):
        raise runs.DivergedError(
            f"step {step}: the loss or its gradient is not finite; lower learning_rate, then go "
            "on from the last checkpoint with --resume"
        )
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    optimiser.zero_grad()
    return float(norm)
