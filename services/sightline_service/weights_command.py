"""`sightline weights`: brings models to a folder, locks and verifies them. Knows the terminal."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sightline_service.models.reference import ModelLoadError
from sightline_service.models.weights_lock import WeightsFolder, WeightsLock

_EPILOG = """\
Serve from the folder without a network:
  HF_HOME=FOLDER HF_HUB_OFFLINE=1 sightline serve --similarity hf:org/name \\
      --weights-lock FOLDER/weights.lock.json"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 1 with one line on stderr."""
    options = _parser().parse_args(argv)
    folder = WeightsFolder(options.folder)
    try:
        if options.action == "fetch":
            lock = folder.fetch(
                options.reference, endpoint=options.endpoint, allow_pickle=options.allow_pickle
            )
        else:
            lock = folder.verify()
    except (ModelLoadError, OSError) as error:
        sys.stderr.write(f"sightline weights: {error}\n")
        return 1
    sys.stdout.write(_summary(lock, folder.lock_path))
    return 0


def _summary(lock: WeightsLock, path: Path) -> str:
    lines = [
        f"{model.reference}  revision {model.revision or 'local'}  {len(model.files)} files  "
        f"preprocess {model.preprocess}\n"
        for model in lock.models
    ]
    return "".join([*lines, f"{path}\n"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sightline weights",
        description="Brings models to a folder that serves offline, and locks their files.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True)
    fetch = actions.add_parser("fetch", help="download models and write the lock")
    fetch.add_argument("reference", nargs="+", help="hf:org/name[@revision] or a local folder")
    fetch.add_argument("--endpoint", help="address of the hub; default HF_ENDPOINT")
    fetch.add_argument(
        "--allow-pickle",
        action="store_true",
        help="also pickles, where a repository has no safetensors",
    )
    verify = actions.add_parser("verify", help="compare every file with the lock")
    for action in (fetch, verify):
        action.add_argument(
            "--folder", type=Path, default=Path("weights"), help="where models and lock are"
        )
    return parser
