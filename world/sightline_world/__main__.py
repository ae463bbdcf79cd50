"""The command ``sightline world``: writes scenes, trains the embedded models.

Knows the terminal; no science.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from sightline_world import coco
from sightline_world.splits import SPLITS
from sightline_world.weights import MODELS

_NEEDS_EXTRA = "training needs the packages of an extra: pip install 'sightline[service]'"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``sightline world ...``; returns the exit status: 0, or 1 with the error on stderr."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "scenes":
            _write_scenes(arguments)
        else:
            _train(arguments)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        Console(stderr=True, highlight=False).print(
            f"sightline world: error: {error}", markup=False
        )
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sightline world", description="EmojiWorld.")
    commands = parser.add_subparsers(dest="command", required=True)
    scenes = commands.add_parser("scenes", help="write scenes as PNG files with COCO annotations")
    scenes.add_argument("--count", type=int, required=True, help="how many scenes")
    scenes.add_argument("--seed", type=int, default=0, help="which scenes (default 0)")
    scenes.add_argument("--split", choices=SPLITS, default="test", help="default: test")
    scenes.add_argument("--out", type=Path, required=True, help="folder to write into")
    train = commands.add_parser("train", help="train the embedded models from nothing")
    train.add_argument("model", choices=(*MODELS, "all"))
    train.add_argument("--out", type=Path, required=True, help="folder that gets one per model")
    train.add_argument("--seed", type=int, default=0, help="default: that of the shipped weights")
    train.add_argument(
        "--pool", type=Path, help="folder for drawn scenes (2 GB; default: a temporary one)"
    )
    train.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    return parser


def _write_scenes(arguments: argparse.Namespace) -> None:
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("scenes", total=arguments.count)
        coco.write(
            arguments.out,
            arguments.count,
            split=arguments.split,
            seed=arguments.seed,
            advance=lambda: progress.advance(task),
        )
    sys.stdout.write(
        f"wrote {arguments.count} scenes of the {arguments.split} split to {arguments.out}\n"
    )


def _train(arguments: argparse.Namespace) -> None:
    try:
        from sightline_world.training.rebuild import rebuild
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}: {_NEEDS_EXTRA}") from error
    models = MODELS if arguments.model == "all" else (arguments.model,)
    rebuild(
        models, arguments.out, pool=arguments.pool, seed=arguments.seed, threads=arguments.threads
    )


if __name__ == "__main__":
    sys.exit(main())
