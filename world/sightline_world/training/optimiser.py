"""AdamW with a step-based warm-up and cosine decay, and the CPU settings every training here needs.

Knows torch only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

GRADIENT_NORM = 1.0


def prepare_cpu(threads: int, seed: int) -> None:
    """Fixes threads and seed; turns flash attention off, whose CPU backward is slow here."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    torch.backends.cuda.enable_flash_sdp(False)  # also governs the CPU kernel


class Optimiser:
    """Updates parameters for a fixed number of steps: linear warm-up, then cosine decay to zero."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, peak: float, steps: int, warmup: int = 200
    ) -> None:
        self._parameters = [p for p in parameters if p.requires_grad]
        matrices = [p for p in self._parameters if p.ndim >= 2]
        vectors = [p for p in self._parameters if p.ndim < 2]
        self._adamw = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}],
            lr=peak,
            betas=(0.9, 0.98),
        )
        self._peak, self._steps, self._warmup, self._done = peak, steps, warmup, 0

    def step(self, loss: torch.Tensor) -> None:
        """One update from ``loss``; gradients are clipped to norm 1."""
        rate = self._peak * min(1.0, (self._done + 1) / self._warmup)
        rate *= 0.5 + 0.5 * math.cos(math.pi * min(1.0, self._done / self._steps))
        for group in self._adamw.param_groups:
            group["lr"] = rate
        self._adamw.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self._parameters, GRADIENT_NORM)
        self._adamw.step()
        self._done += 1
