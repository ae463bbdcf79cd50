"""How much memory the accelerators have and use. Knows torch where it is loaded."""

import sys
from collections.abc import Callable
from typing import Literal

State = Literal["allocated", "reserved", "free", "total"]


def device_memory() -> dict[State, Callable[[], float]]:
    """Returns a reading, in bytes over all CUDA devices, per state; empty where there is no CUDA.

    "allocated" is held by tensors, "reserved" by torch's allocator, "free" by nobody on the device.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    devices, cuda = range(torch.cuda.device_count()), torch.cuda
    return {
        "allocated": lambda: float(sum(cuda.memory_allocated(n) for n in devices)),
        "reserved": lambda: float(sum(cuda.memory_reserved(n) for n in devices)),
        "free": lambda: float(sum(cuda.mem_get_info(n)[0] for n in devices)),
        "total": lambda: float(sum(cuda.mem_get_info(n)[1] for n in devices)),
    }
