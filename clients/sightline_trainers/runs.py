"""What every run has: processes, folder, checkpoints, manifest. Knows accelerate; no method."""

import hashlib
import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import (  # type: ignore[import-untyped]  # ships no types
    Accelerator,
    InitProcessGroupKwargs,
)
from accelerate.utils import parse_flag_from_env  # type: ignore[import-untyped]

from sightline_proto import ServiceInfo
from sightline_trainers.checkpoint import Checkpoints, Process, Stateful, write_whole
from sightline_trainers.configuration import plain
from sightline_trainers.data import DataConfig
from sightline_trainers.policy import Policy, PolicyConfig, export_adapter, export_merged
from sightline_trainers.report import write_report
from sightline_trainers.rewards import RewardConfig, RewardOutageError, RewardRefusedError
from sightline_trainers.tracking import Report, Tracker, write_output

_SLACK_S = 1800.0
_SHARDING = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
"""What `accelerate launch` sets, by what shares out a model's weights or its optimiser."""
_FREE = ("output_dir", "report_to", "save_every", "keep_checkpoints", "max_steps", "merge")
"""What may differ between a run and its continuation."""


T = TypeVar("T")


class RunStateError(ValueError):
    """The run's folder does not fit what was asked for."""


class DivergedError(RuntimeError):
    """A loss or a gradient was not finite; the weights are as they were before that step."""


def require(
    config: object,
    *names: str,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
) -> None:
    """Holds numbers of a configuration against bounds.

    Raises:
        ValueError: one is outside; the message names it, its value and the bounds.
    """
    for name in names:
        value = getattr(config, name)
        wrong = {
            f"at least {least}": least is not None and not value >= least,
            f"more than {above}": above is not None and not value > above,
            f"at most {most}": most is not None and not value <= most,
        }
        if any(wrong.values()):
            mend = " and ".join(bound for bound in wrong if not bound.endswith("None"))
            raise ValueError(f"{name} is {value}: give {mend}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every method's configuration holds.

    Raises:
        ValueError: a number is out of range.
    """

    output_dir: Path
    """Everything that the run writes goes here."""
    seed: int = 0
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    data: DataConfig
    reward: RewardConfig = field(default_factory=RewardConfig)
    report_to: tuple[Report, ...] = ()
    """Also send metrics to tensorboard or wandb."""
    save_every: int = 20
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    max_steps: int | None = None
    """Stop after this many steps, before the data ends."""
    merge: bool = False
    """Write the merged model too."""

    def __post_init__(self) -> None:
        """Refuses what cannot be run."""
        require(self, "save_every", "keep_checkpoints", least=1)
        if self.max_steps is not None:
            require(self, "max_steps", least=1)
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed is {self.seed}: give 0 to {2**31 - 1}")

    @property
    def digest(self) -> str:
        """A hash of all that decides the result."""
        content = {name: value for name, value in plain(self).items() if name not in _FREE}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Run:
    """One run of one method in this process.

    Args:
        config: the run's configuration.
        method: the method's name.
        n_steps: how many steps it has.
        accelerator: the processes.
        resume: go on from the newest checkpoint.

    Raises:
        RunStateError: the folder holds a run and `resume` is not set.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        method: str,
        n_steps: int,
        accelerator: Accelerator,
        resume: bool,
    ) -> None:
        self.config = config
        self.method = method
        self.accelerator = accelerator
        self.process = Process(accelerator.process_index, accelerator.num_processes)
        self.checkpoints = Checkpoints(
            config.output_dir / "checkpoints",
            self.process,
            accelerator.wait_for_everyone,
            keep=config.keep_checkpoints,
        )
        self.resumed_from = self._find_start(resume)
        accelerator.wait_for_everyone()
        config.output_dir.mkdir(parents=True, exist_ok=True)
        self.tracker = Tracker(
            config.output_dir,
            total=n_steps,
            report_to=config.report_to,
            name=method,
            leads=self.process.leads,
        )
        self._started = time.monotonic()
        self._n_steps = n_steps

    def shows(self, step: int) -> bool:
        """Whether this process keeps examples of `step`: of the first, and of checkpoints."""
        kept = step == 1 or step % self.config.save_every == 0 or step == self._n_steps
        return self.process.leads and kept

    def _find_start(self, resume: bool) -> int | None:
        newest = self.checkpoints.newest()
        used = newest is not None or (self.config.output_dir / "metrics.jsonl").exists()
        if used and not resume:
            raise RunStateError(
                f"output_dir {str(self.config.output_dir)!r} holds a run: give --resume to go on "
                "with it, or another folder"
            )
        return newest if resume else None

    def save(self, step: int, trained: Mapping[str, torch.Tensor], optimiser: Stateful) -> None:
        """Writes a checkpoint; all processes take part."""
        facts = {"method": self.method, "config_digest": self.config.digest}
        self.checkpoints.save(step, trained, optimiser, facts)

    def load(self, trained: Mapping[str, torch.Tensor], optimiser: Stateful) -> int:
        """Takes the newest checkpoint back, if the run is resumed; gives the steps that are done.

        Raises:
            RunStateError: the run was begun with another configuration.
        """
        self.tracker.resume(self.resumed_from or 0)
        if self.resumed_from is None:
            return 0
        saved, facts = self.checkpoints.load(self.resumed_from, optimiser)
        if facts["config_digest"] != self.config.digest:
            raise RunStateError(
                f"{self.config.output_dir} was begun with another configuration, see its "
                f"manifest.json: only {', '.join(_FREE)} may change"
            )
        with torch.no_grad():
            for name, tensor in trained.items():
                tensor.copy_(saved[name])
        return self.resumed_from

    def finish(self, policy: Policy, *, waited_s: float) -> None:
        """Writes adapter and report, and the merged model if wanted; says how time was spent."""
        folder = self.config.output_dir
        if not self.process.leads:
            return
        export_adapter(policy, folder / "adapter")
        if self.config.merge:
            export_merged(policy, folder / "merged")
        seconds = time.monotonic() - self._started
        summary = {"seconds": seconds, "reward_seconds": waited_s}
        write_whole(folder / "summary.json", json.dumps(summary) + "\n")
        share = 100 * waited_s / seconds
        write_output(f"{self.method}: {seconds:.0f} s, {share:.1f} % of them waiting for rewards")
        write_output(f"adapter: {folder / 'adapter'}")
        if self.config.merge:
            write_output(f"merged model: {folder / 'merged'}")
        write_output(f"report: {write_report(folder)}")

    def write_manifest(self, service: ServiceInfo, **facts: Any) -> None:  # noqa: ANN401 - JSON
        """Writes down what the run is made from: data, seeds, versions, the models that reward."""
        self.tracker.write_manifest(
            {
                "method": self.method,
                "config": plain(self.config),
                "config_digest": self.config.digest,
                "seed": self.config.seed,
                "processes": self.process.n_processes,
                "device": str(self.accelerator.device),
                "service": service.model_dump(mode="json"),
                "resumed_from": self.resumed_from,
                **facts,
            }
        )

    def agree(self, wait: Callable[[], T], *, before_raising: Callable[[], None]) -> T:
        """What `wait` gives, if it gives something in every process.

        Raises:
            RewardOutageError, RewardRefusedError: it failed here or elsewhere; all processes have
                then called `before_raising`, and all raise.
        """
        failure: RewardOutageError | RewardRefusedError | None = None
        answer: list[T] = []
        try:
            answer.append(wait())
        except (RewardOutageError, RewardRefusedError) as error:
            failure = error
        if self.any_failed(failure is not None):
            before_raising()
            raise failure or RewardOutageError("another process got no rewards: see its message")
        return answer[0]

    def any_failed(self, failed: bool) -> bool:
        """Whether any process failed; all processes ask, and all get the same answer."""
        flag = torch.tensor([float(failed)], device=self.accelerator.device)
        return bool(self.total(flag).item() > 0)

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes."""
        summed = self.accelerator.reduce(values, "sum")
        assert isinstance(summed, torch.Tensor)
        return summed


def build_accelerator(patience_s: float) -> Accelerator:
    """The processes of the run; one waits for another at least as long as for the service.

    Raises:
        ValueError: they were launched so that they share out the model.
    """
    for variable, name in _SHARDING.items():
        if parse_flag_from_env(variable):
            raise ValueError(
                f"the processes were launched with {name}, but each samples texts of its own "
                "length and so needs the whole model: launch them with accelerate/ddp.yaml"
            )
    waiting = InitProcessGroupKwargs(timeout=timedelta(seconds=patience_s + _SLACK_S))
    return Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision="no",  # sampling and learning must see one network: see policy.dtype
        kwargs_handlers=[waiting],
    )


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch, the same in all processes."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
