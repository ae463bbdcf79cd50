"""Diffusion noise on a model's image input, as SeVa adds it. Knows tensors; knows no model."""

from functools import cache

import torch
from torch import Tensor

STEPS = 1000
"""Length of the forward process; noise steps count from 0."""


@cache
def coefficients(step: int) -> tuple[float, float]:
    """The shares of signal and noise at a step: sqrt(abar_t) and sqrt(1 - abar_t).

    beta_t rises along a sigmoid from 1e-5 to 0.005, abar_t is the product of 1 - beta (SeVa and
    VCD, after Ho et al., 2020).

    Raises:
        ValueError: no such step.
    """
    if not 0 <= step < STEPS:
        raise ValueError(f"noise step is {step}: give 0 to {STEPS - 1}")
    beta = torch.linspace(-6, 6, STEPS, dtype=torch.float64).sigmoid() * (0.005 - 1e-5) + 1e-5
    signal = float((1 - beta[: step + 1]).prod())
    return signal**0.5, (1 - signal) ** 0.5


def noised(pixels: Tensor, *, step: int, seed: int) -> Tensor:
    """The normalised pixels at a step of the forward process: same shape, type and device.

    The noise is drawn on the CPU in float32, so that a seed means the same on every device.
    """
    signal, noise = coefficients(step)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(pixels.shape, generator=generator)
    return (signal * pixels.float() + noise * drawn.to(pixels.device)).to(pixels.dtype)
