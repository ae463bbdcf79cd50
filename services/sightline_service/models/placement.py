"""Where a model runs and in which arithmetic. Knows torch; knows no model."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from sightline_service.models.protocols import OutOfDeviceMemoryError
from sightline_service.models.reference import ModelLoadError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_DEVICES = frozenset({"cpu", "cuda", "mps"})
_OUT_OF_MEMORY = ("DefaultCPUAllocator", "not enough memory", "CUDA out of memory")
"""What a plain RuntimeError says then: from the CPU, and from layers that run as one call."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A device and a floating point type."""

    device: torch.device
    dtype: torch.dtype

    @property
    def dtype_name(self) -> str:
        """The type as replies name it: "float32", "bfloat16" or "float16"."""
        return str(self.dtype).removeprefix("torch.")

    @classmethod
    def resolve(cls, device: str, dtype: str) -> "Placement":
        """Reads the settings. "auto" is CUDA where there is one, and bfloat16 there, else float32.

        Raises:
            ModelLoadError: no such device here, no such type, or one that the device does not have.
        """
        place = _device(device)
        if dtype == "auto":
            return cls(place, torch.bfloat16 if place.type == "cuda" else torch.float32)
        if dtype not in _DTYPES:
            raise ModelLoadError(f"dtype {dtype!r} is unknown: use auto, {', '.join(_DTYPES)}")
        if dtype == "float16" and place.type == "cpu":
            raise ModelLoadError(
                "dtype float16 is for GPUs, and the models would run on the CPU: use float32 or "
                "bfloat16, or a machine with a GPU"
            )
        return cls(place, _DTYPES[dtype])


def _device(name: str) -> torch.device:
    cuda = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise _unknown(name) from None
    if device.type not in _DEVICES:
        raise _unknown(name)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ModelLoadError(
            f"device {name!r} is not here, torch sees no Apple GPU: use auto or cpu"
        )
    if device.type == "cuda" and not cuda:
        raise ModelLoadError(f"device {name!r} is not here, torch sees no CUDA: use auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelLoadError(
            f"device {name!r} is not here, torch sees {torch.cuda.device_count()}: lower the index"
        )
    return device


def _unknown(name: str) -> ModelLoadError:
    return ModelLoadError(f"device {name!r} is unknown: use auto, cpu, cuda, cuda:1 or mps")


@contextmanager
def forward_pass() -> Generator[None]:
    """Runs the body without gradients, and says `OutOfDeviceMemoryError` where memory ran out."""
    try:
        with torch.inference_mode():
            yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        message = str(error)
    except RuntimeError as error:
        message = str(error)
        if not any(sign in message for sign in _OUT_OF_MEMORY):
            raise
    else:
        return
    # Outside the handlers, so that the traceback no longer holds the batch's tensors.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise OutOfDeviceMemoryError(message)
