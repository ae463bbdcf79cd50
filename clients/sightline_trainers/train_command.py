"""`sightline train METHOD --config FILE [--field value]`. Knows where methods are; no method."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline import SightlineError
from sightline_trainers.configuration import describe, read_config

METHODS = {
    "aspo": "sightline_trainers.aspo",
    "csr": "sightline_trainers.csr",
    "fisao": "sightline_trainers.fisao",
    "svp": "sightline_trainers.svp",
}
"""Each module has `Config`, a dataclass, and `train(config, *, resume)`."""

_DESCRIPTION = """\
Trains a vision-language policy with rewards from the service at REWARD_URL. Any field of the
configuration can be given as a flag (--learning_rate 1e-5, --data.limit 100), which wins over the
file. On several devices: accelerate launch -m sightline_trainers METHOD --config FILE.
`sightline train report DIR` writes the report of a run anew."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 1 with the reason on stderr, or 130 where it was stopped."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["report"]:
        return _report(words[1:])
    arguments, flags = _parser().parse_known_args(words)
    method: Any = importlib.import_module(METHODS[arguments.method])
    if arguments.fields:
        sys.stdout.write("\n".join(describe(method.Config)) + "\n")
        return 0
    try:
        config = read_config(method.Config, arguments.config, flags)
        method.train(config, resume=arguments.resume)
        _part()
    except KeyboardInterrupt:
        return _complain("stopped; --resume goes on from the last checkpoint", 130)
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        return _complain(reason, 1)
    return 0


def _part() -> None:
    """Ends what ties this process to the others of its run."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _report(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "sightline train report", description="Writes a run's report.html anew.", allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the output_dir of the run")
    folder: Path = parser.parse_args(words).folder
    # Imported here because torch takes seconds, which a wrong argument should not.
    from sightline_trainers.report import write_report

    try:
        sys.stdout.write(f"report: {write_report(folder)}\n")
    except (OSError, ValueError) as error:
        return _complain(str(error), 1)
    return 0


def _complain(reason: str, status: int) -> int:
    sys.stderr.write(f"sightline train: {reason}\n")
    return status


def _reason(error: Exception) -> str | None:
    """What to say of an error that data, settings, models, service or machine cause; else None."""
    # Imported here because torch takes seconds, which a wrong argument should not.
    import torch
    from safetensors import SafetensorError

    from sightline_trainers.rewards import RewardOutageError, RewardRefusedError
    from sightline_trainers.runs import DivergedError

    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return f"out of memory: lower the batch sizes, which --fields lists, and --resume ({said})"
    if isinstance(error, SafetensorError):
        return f"a file of weights cannot be read, copy or download it again: {said}"
    if isinstance(error, torch.distributed.DistError):
        return f"the processes lost each other, see what each of them said: {said}"
    expected = (
        ValueError,
        OSError,
        ImportError,
        SightlineError,
        DivergedError,
        RewardOutageError,
        RewardRefusedError,
    )
    return said if isinstance(error, expected) else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "sightline train",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("method", choices=sorted(METHODS))
    parser.add_argument("--config", type=Path, metavar="FILE", help="a YAML or TOML file")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument("--fields", action="store_true", help="list the method's fields and end")
    return parser
