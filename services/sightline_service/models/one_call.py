"""A model's layers recorded, to be run as one call. Knows torch; knows no model.

In Python every operation gives the interpreter's lock away and has to get it back, against the
threads that read requests and prepare images: a small text tower took 12 ms for 1 ms of work. A
recording is run without the lock, and is the same operations in the same order on the same weights.

torch advises `torch.export` instead of `torch.jit.trace`, but what it returns is again run by
Python, or compiled by a C++ compiler, which a service does not have at hand.
"""

import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

_jit: Any = torch.jit  # it has no types

log = logging.getLogger(__name__)

Encode = Callable[..., torch.Tensor]

_LAST_PYTHON = (3, 13)
"""torch does not promise recordings beyond."""


class _Layers(torch.nn.Module):
    """`encode` as a module that holds its weights, which a recording shares."""

    def __init__(self, model: torch.nn.Module, encode: Encode) -> None:
        super().__init__()
        self.model = model
        self._encode = encode

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self._encode(*inputs)

    def hold(self, n_inputs: int) -> list[str]:
        """Makes places for a recording's inputs, and returns their names.

        torch takes Python's lock to drop the last reference but Python's, in the middle of a call.
        """
        names = [f"input_{n}" for n in range(n_inputs)]
        for name in names:
            self.register_buffer(name, torch.empty(0), persistent=False)
        return names


def one_call(
    model: torch.nn.Module, encode: Encode, examples: Sequence[tuple[torch.Tensor, ...]]
) -> Encode:
    """Returns what gives the same tensors as `encode`, bit for bit, without Python's lock.

    That is `encode` itself where it cannot be recorded, or where its code looks at what it is
    given, so that a recording would hold for the examples alone.

    Args:
        model: holds every weight that `encode` uses.
        encode: maps a batch, as tensors on the model's device, to one row each.
        examples: batches of several sizes; the first is recorded, and all are compared.
    """
    if sys.version_info[:2] > _LAST_PYTHON:
        return encode
    try:
        recorded = _recorded(_Layers(model, encode), examples[0])
        with torch.inference_mode():
            same = all(torch.equal(recorded(*each), encode(*each)) for each in examples)
    except Exception as error:  # noqa: BLE001 - a model's code may do anything at all
        log.debug("not recorded: %s", error)
        return encode
    return recorded if same else encode


def _recorded(layers: _Layers, example: tuple[torch.Tensor, ...]) -> Encode:
    names, nothing = layers.hold(len(example)), torch.empty(0)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the advice that the module's head answers
        warnings.simplefilter("error", _jit.TracerWarning)
        # torch's own layers compare shapes only to assert that they fit.
        warnings.filterwarnings("ignore", category=_jit.TracerWarning, module=r"torch\.")
        traced = _jit.trace(layers, example, check_trace=False)

    def run(*inputs: torch.Tensor) -> torch.Tensor:
        for name, each in zip(names, inputs, strict=True):
            setattr(traced, name, each)
        try:
            # Optimising would compile anew for new shapes, and fuse operations on a GPU.
            with _jit.optimized_execution(False):
                output: torch.Tensor = traced.forward(*inputs)
        finally:
            for name in names:
                setattr(traced, name, nothing)
        return output

    return run
