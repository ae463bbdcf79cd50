"""The teams of threads that torch's operations run on. Knows the OpenMP runtime; knows no model."""

import ctypes
import os
import sys
from functools import cache
from pathlib import Path

_SOFT = 1


def shorten_spinning() -> None:
    """Has idle threads of a team wait busily for 0.1 ms and not for 3, unless it is set otherwise.

    Long enough for the next operation of the same forward pass, and short enough to leave the
    core to those who prepare the next batch. The runtime reads it when torch is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def compute_alone() -> None:
    """Has each forward pass run on its own thread only, unless the environment says otherwise."""
    if "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(1)


def keep_to_thread() -> None:
    """Has the calling thread compute without a team, whatever other threads do.

    Some image processors are torch operations on whole images. Their teams would never rest, and
    put those of the models to sleep between two operations (see `release_team`). Products of
    matrices are not among them, and keep the number of threads that MKL has of its own.
    """
    runtime = _runtime()
    if runtime is not None:
        import torch

        torch.get_num_threads()  # torch sets a thread's number when the thread first uses it
        runtime.omp_set_num_threads(1)


def release_team() -> None:
    """Ends the calling thread's team, which its next operation builds anew in 0.1 ms.

    GNU's runtime keeps a team for each thread that ever computed. Where all of them together are
    more than the cores, it puts each to sleep between two operations, 80 us every time: models
    that rest would slow down the one that works.
    """
    runtime = _runtime()
    if runtime is not None:
        runtime.omp_pause_resource_all(_SOFT)


def _runtime() -> ctypes.CDLL | None:
    """Returns GNU's runtime where torch is loaded and brought one with it."""
    torch = sys.modules.get("torch")
    return None if torch is None or torch.__file__ is None else _shipped(Path(torch.__file__))


@cache
def _shipped(torch_file: Path) -> ctypes.CDLL | None:
    for path in sorted((torch_file.parent / "lib").glob("libgomp*.so*")):
        runtime = ctypes.CDLL(str(path))
        if hasattr(runtime, "omp_pause_resource_all"):
            return runtime
    return None
