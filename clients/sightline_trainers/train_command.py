"""`sightline train METHOD --config FILE [--field value]`. Knows where methods are; no method."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline import SightlineError

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
file. On several devices: accelerate launch -m sightline_trainers METHOD --config FILE"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 1 with the reason on stderr."""
    arguments, flags = _parser().parse_known_args(argv)
    # Imported here because torch takes seconds, which a wrong argument should not.
    from sightline_trainers.configuration import describe, read_config
    from sightline_trainers.rewards import RewardOutageError, RewardRefusedError
    from sightline_trainers.runs import DivergedError

    expected = (ValueError, OSError, SightlineError, DivergedError)

    method: Any = importlib.import_module(METHODS[arguments.method])
    if arguments.fields:
        sys.stdout.write("\n".join(describe(method.Config)) + "\n")
        return 0
    try:
        config = read_config(method.Config, arguments.config, flags)
        method.train(config, resume=arguments.resume)
    except (*expected, RewardOutageError, RewardRefusedError) as error:
        sys.stderr.write(f"sightline train: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("sightline train: stopped; --resume goes on from the last checkpoint\n")
        return 130
    return 0


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
