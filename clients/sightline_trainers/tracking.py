"""What a run shows and leaves behind: metrics, messages, manifest. Knows rich; no model."""

import importlib
import json
import math
import platform
import secrets
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Self, get_args

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sightline_trainers.checkpoint import write_whole

Report = Literal["tensorboard", "wandb"]
REPORTS: tuple[Report, ...] = get_args(Report)
_PACKAGES = ("sightline", "torch", "transformers", "peft", "accelerate", "trl", "numpy")


class Tracker:
    """Writes metrics.jsonl and manifest.json, draws the bar, and passes metrics on.

    On other processes than the first it is silent.

    Args:
        folder: the run's folder.
        total: how many steps the run has.
        report_to: where metrics go besides the file.
        name: the run's name there.
        leads: whether this is the first process.
    """

    def __init__(
        self,
        folder: Path,
        *,
        total: int,
        report_to: Sequence[Report] = (),
        name: str = "run",
        leads: bool = True,
    ) -> None:
        self._folder = folder
        self._leads = leads
        self._console = Console(stderr=True, quiet=not leads)
        self._writers = [_WRITERS[each](folder, name) for each in report_to] if leads else []
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[shown]}"),
            console=self._console,
            disable=not leads,
        )
        self._task = self._progress.add_task(name, total=total, shown="")

    def resume(self, step: int) -> None:
        """Drops what was logged after `step`, so that the file holds each step once."""
        self._progress.update(self._task, completed=step)
        path = self._folder / "metrics.jsonl"
        if self._leads and path.is_file():
            kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= step]
            write_whole(path, "".join(kept))

    def log(self, step: int, metrics: Mapping[str, float], *, shown: Sequence[str] = ()) -> None:
        """Adds one step's metrics; those named in `shown` stand beside the bar."""
        if not self._leads:
            return
        plain = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        with (self._folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **plain}) + "\n")
        for writer in self._writers:
            writer.log(step, metrics)
        beside = "  ".join(f"{name} {metrics[name]:.3g}" for name in shown)
        self._progress.update(self._task, completed=step, shown=beside)

    def say(self, message: str) -> None:
        """Shows a line above the bar."""
        self._console.print(message, markup=False, highlight=False)

    def write_manifest(self, facts: Mapping[str, Any]) -> None:
        """Writes what the run was made from: versions, and the given facts (JSON values)."""
        if self._leads:
            content = {"written": datetime.now(UTC).isoformat(), "versions": versions(), **facts}
            write_whole(self._folder / "manifest.json", json.dumps(content, indent=2) + "\n")

    def __enter__(self) -> Self:
        """Starts the bar, which ends with the block."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the bar and closes the writers."""
        self._progress.stop()
        for writer in self._writers:
            writer.close()


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide the result."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file that may end in the middle of one."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n")]


def _optional(module: str, package: str) -> Any:  # noqa: ANN401 - a library that may be missing
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ValueError(f"report_to needs {package}: pip install {package}") from None


class _TensorBoard:
    def __init__(self, folder: Path, name: str) -> None:
        del name
        self._folder = folder / "tensorboard"
        self._module = _optional("torch.utils.tensorboard", "tensorboard")
        self._writer: Any = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._writer is None:
            # a resumed run logs some steps again: those of before are not shown beside them
            self._writer = self._module.SummaryWriter(str(self._folder), purge_step=step)
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _WeightsAndBiases:
    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._module = _optional("wandb", "wandb")
        self._run: Any = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._run is None:
            self._run = self._module.init(
                project="sightline",
                name=self._name,
                dir=str(self._folder),
                id=self._id(step),
                resume="allow",
            )
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()

    def _id(self, step: int) -> str:
        """The same for a run and its continuation, so that they are one run there too."""
        path = self._folder / "wandb-id.txt"
        if step == 1 or not path.is_file():
            write_whole(path, secrets.token_hex(4))
        return path.read_text(encoding="utf-8")


_WRITERS: dict[Report, type[_TensorBoard] | type[_WeightsAndBiases]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WeightsAndBiases,
}


def write_output(line: str) -> None:
    """Writes one line of results to stdout."""
    sys.stdout.write(f"{line}\n")
