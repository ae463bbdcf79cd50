"""One step down the gradient, refused where not finite. Knows optimisers; knows no method."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sightline_trainers import runs


def cosine_rate(step: int, *, n_steps: int, highest: float) -> float:
    """The learning rate of step 0, 1, ..: `highest` at first, towards 0 at the last of `n_steps`.

    It follows from the step alone, so that a resumed run needs no scheduler's state.
    """
    return highest * 0.5 * (1 + math.cos(math.pi * step / n_steps))


def descend(
    run: runs.Run,
    optimiser: Any,  # noqa: ANN401 - accelerate's, which is untyped
    parameters: Sequence[nn.Parameter],
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
        parameters: what is trained, with gradients.
        losses: the step's losses in this process.
        rate: the learning rate.
        max_norm: the gradient is scaled down to this norm.
        step: the number of the step, for the message.

    Raises:
        DivergedError: a loss or the norm is not finite in some process; nothing has changed.
    """
    norm = run.accelerator.clip_grad_norm_(parameters, max_norm)
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
