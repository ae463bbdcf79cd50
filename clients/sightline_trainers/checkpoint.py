"""All that a run needs to go on where it was. Knows files and random states; no method.

A checkpoint is a folder that appears whole or not at all: it is written under another name, flushed
to disk and then renamed. Tensors are read back with `weights_only`, so that a file runs no code.
"""

import json
import os
import random
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

_STATE, _TENSORS, _OPTIMISER = "state.json", "trained.safetensors", "optimiser.pt"
_NAME = re.compile(r"step-(\d{8})")


class Stateful(Protocol):
    """What an optimiser offers."""

    def state_dict(self) -> dict[str, Any]:
        """Its state."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes a state back."""
        ...


@dataclass(frozen=True, slots=True)
class Process:
    """This process among those of the run, and how it waits for the others."""

    rank: int
    n_processes: int

    @property
    def leads(self) -> bool:
        """Whether it writes what is common to all."""
        return self.rank == 0


class Checkpoints:
    """The checkpoints of one run, of which the newest `keep` stay.

    Args:
        folder: where they lie, one folder each.
        process: this process.
        barrier: returns when all processes have called it.
        keep: how many stay.
    """

    def __init__(self, folder: Path, process: Process, barrier: Any, *, keep: int = 2) -> None:  # noqa: ANN401 - a bound method of accelerate
        self._folder = folder
        self._process = process
        self._barrier = barrier
        self._keep = keep

    def newest(self) -> int | None:
        """The step of the newest checkpoint."""
        return max(self._steps(), default=None)

    def save(
        self,
        step: int,
        trained: Mapping[str, Tensor],
        optimiser: Stateful,
        facts: Mapping[str, Any],
    ) -> None:
        """Writes the checkpoint of `step`; every process takes part.

        Args:
            step: how many steps are done.
            trained: every tensor that training changes.
            optimiser: its state is the same in all processes.
            facts: further JSON values, given back by `load`.
        """
        target = self._folder / f"step-{step:08d}"
        if target.is_dir():
            return
        partial = self._folder / f".step-{step:08d}.partial"
        if self._process.leads:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            save_file(
                {name: tensor.contiguous() for name, tensor in trained.items()}, partial / _TENSORS
            )
            torch.save(optimiser.state_dict(), partial / _OPTIMISER)
            content = {**facts, "step": step, "n_processes": self._process.n_processes}
            (partial / _STATE).write_text(json.dumps(content, indent=2), encoding="utf-8")
        self._barrier()
        torch.save(random_states(), partial / f"random-{self._process.rank}.pt")
        self._barrier()
        if self._process.leads:
            _flush(partial)
            partial.rename(target)
            _flush_folder(self._folder)
            for old in sorted(self._steps())[: -self._keep]:
                shutil.rmtree(self._folder / f"step-{old:08d}")
        self._barrier()

    def load(self, step: int, optimiser: Stateful) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Puts optimiser and random states back; gives the trained tensors and the facts.

        Raises:
            ValueError: the run had another number of processes.
        """
        source = self._folder / f"step-{step:08d}"
        facts: dict[str, Any] = json.loads((source / _STATE).read_text(encoding="utf-8"))
        if facts["n_processes"] != self._process.n_processes:
            raise ValueError(
                f"{source} is of a run with {facts['n_processes']} processes, this one has "
                f"{self._process.n_processes}: start as many"
            )
        optimiser.load_state_dict(torch.load(source / _OPTIMISER, weights_only=True))
        states = torch.load(source / f"random-{self._process.rank}.pt", weights_only=True)
        restore_random_states(states)
        return load_file(source / _TENSORS), facts

    def _steps(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        names = (_NAME.fullmatch(path.name) for path in self._folder.iterdir())
        return [int(name.group(1)) for name in names if name]


def random_states() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's generators, as plain values and tensors."""
    version, internal, gauss = random.getstate()
    numpy_state: dict[str, Any] = dict(np.random.get_state(legacy=False))
    inner = dict(numpy_state["state"])
    numpy_state["state"] = {**inner, "key": torch.from_numpy(inner["key"].astype(np.int64))}
    return {
        "python": (version, internal, gauss),
        "numpy": numpy_state,
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Takes back what `random_states` gave."""
    random.setstate(states["python"])
    numpy_state = dict(states["numpy"])
    inner = dict(numpy_state["state"])
    numpy_state["state"] = {**inner, "key": inner["key"].numpy().astype(np.uint32)}
    np.random.set_state(numpy_state)
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])


def write_whole(path: Path, content: str) -> None:
    """Writes a text file that is never seen half written."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(content, encoding="utf-8")
    partial.replace(path)


def _flush(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
