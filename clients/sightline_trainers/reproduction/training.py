"""Trains one variant in a process of its own, once. Knows run folders; knows no method."""

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline_trainers.configuration import read_config
from sightline_trainers.journal import Journal
from sightline_trainers.runs import RunConfig
from sightline_trainers.train_command import METHODS

_ONE_THREAD = ("OMP_NUM_THREADS=1", "MKL_NUM_THREADS=1")


class TrainingFailedError(RuntimeError):
    """A training process ended without its adapter; it has said why."""


@dataclass(frozen=True, slots=True)
class Job:
    """A training run: the recipe with fields laid over it, into a folder.

    Attributes:
        method: as in `sightline train`.
        recipe: the configuration file.
        fields: what is laid over it, by the path of the field, as text.
        folder: the run's output_dir; `product`, in it, exists when the run is done.
    """

    method: str
    recipe: Path
    fields: Mapping[str, str]
    folder: Path
    product: str = "summary.json"

    @property
    def arguments(self) -> list[str]:
        """The fields as flags of `sightline train`."""
        fields = {**self.fields, "output_dir": str(self.folder)}
        return [word for name, value in fields.items() for word in (f"--{name}", value)]

    def read(self) -> RunConfig:
        """The configuration.

        Raises:
            ValueError, OSError: as `read_config`.
        """
        module: Any = importlib.import_module(METHODS[self.method])
        config = read_config(module.Config, self.recipe, self.arguments)
        assert isinstance(config, RunConfig)
        return config

    @property
    def done(self) -> bool:
        """Whether the run is finished, with this very configuration.

        Raises:
            ValueError: the folder holds a run with another one.
        """
        manifest = self.folder / "manifest.json"
        if not manifest.is_file():
            return False
        found = json.loads(manifest.read_text(encoding="utf-8"))["config_digest"]
        if found != self.read().digest:
            raise ValueError(
                f"{self.folder} was trained with another configuration, see its manifest.json: "
                "give another folder, or the same fields and recipe"
            )
        return (self.folder / self.product).is_file()


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run took: seconds in all, and those that it stood still for rewards."""

    seconds: float
    reward_seconds: float

    @property
    def share(self) -> float:
        """The part of the time that was spent waiting for rewards."""
        return self.reward_seconds / self.seconds if self.seconds else 0.0


def train(job: Job, url: str) -> None:
    """Runs a job to its end, from where it was left if it was begun.

    Args:
        job: what to run.
        url: the reward service.

    Raises:
        TrainingFailedError: it ended without its product.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    # `env` and not a changed environment of our own: what is set here is for this child alone
    command = ["env", *_ONE_THREAD, f"REWARD_URL={url}", sys.executable, "-m", "sightline_trainers"]
    command += [job.method, "--config", str(job.recipe), "--resume", *job.arguments]
    started = time.monotonic()
    try:
        code = subprocess.run(command, stdout=sys.stderr, check=False).returncode  # nosec B603
    finally:
        attempt = {"seconds": time.monotonic() - started}
        Journal(_attempts(job.folder)).append([attempt])
    if code != 0 or not (job.folder / job.product).is_file():
        raise TrainingFailedError(
            f"training in {job.folder} ended with code {code}: see above; the same command goes on "
            "from its last checkpoint"
        )


def cost_of(folder: Path) -> Cost:
    """The wall-clock of all attempts together, and the waits that the run's own log counts.

    An attempt that was killed together with this process has left no time.
    """
    seconds = sum(attempt["seconds"] for attempt in Journal(_attempts(folder)).read())
    waits = (line.get("reward_wait_s") for line in metrics_of(folder))
    return Cost(seconds, sum(wait for wait in waits if wait is not None))


def metrics_of(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, in order."""
    return Journal(folder / "metrics.jsonl").read()


def _attempts(folder: Path) -> Path:
    return folder / "attempts.jsonl"
