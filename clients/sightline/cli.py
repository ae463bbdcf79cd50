"""The command `sightline`: finds the command that is asked for and runs it. Knows no command.

A command is an entry point of the group "sightline.commands": a function that takes the arguments
and returns the exit status. Status 2 means wrong usage, 1 a failure, 130 an interruption.
"""

import argparse
import difflib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points, version
from itertools import takewhile

from pydantic import ValidationError

from sightline.errors import ConfigurationError, SightlineError
from sightline_proto import validation_detail

GROUP = "sightline.commands"
USAGE, FAILURE, INTERRUPTED, BROKEN_PIPE = 2, 1, 130, 141


@dataclass(frozen=True, slots=True)
class Listing:
    """What the overview says of a command, and the extra whose packages it needs."""

    summary: str
    extra: str | None = None


LISTINGS: dict[str, Listing] = {
    "calibrate": Listing("build a calibration profile from captions and ground truth", "eval"),
    "captions": Listing("score captions against references: BLEU, METEOR, ROUGE-L, CIDEr", "eval"),
    "chair": Listing("count the objects that captions name but images lack", "eval"),
    "demo": Listing("score fresh scenes end to end and write an HTML report", "service,eval"),
    "ground": Listing("find phrases in an image and draw their boxes"),
    "pope": Listing("score yes/no answers about objects, split by split", "eval"),
    "reproduce": Listing(
        "re-run a paper's comparison on the embedded world", "service,eval,trainers"
    ),
    "score": Listing("score captions against images, word by word and sentence by sentence"),
    "serve": Listing("start the reward service", "service"),
    "train": Listing("align a vision-language model on the service's scores", "trainers"),
    "weights": Listing("bring models to a folder that serves offline, and lock them", "service"),
    "world": Listing("draw scenes of EmojiWorld with their ground truth", "service"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status; never raises, unless `--debug` is given."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands = {entry.name: entry for entry in entry_points(group=GROUP)}
    own = list(takewhile(lambda argument: argument.startswith("-"), arguments))
    parser = _parser(commands)
    try:
        debug: bool = parser.parse_args(own).debug
    except SystemExit as stop:
        return _status(stop)
    if len(own) == len(arguments):
        parser.print_help(sys.stderr)
        return USAGE
    logging.getLogger("sightline").addHandler(
        logging.StreamHandler() if debug else logging.NullHandler()
    )
    name, *rest = arguments[len(own) :]
    if name not in commands:
        return _complain("", _unknown(name, commands), USAGE)
    return _run(commands[name], rest, debug=debug)


def _parser(commands: Mapping[str, EntryPoint]) -> argparse.ArgumentParser:
    width = max(map(len, commands), default=0) + 2
    lines = [f"  {name:<{width}}{_summary(name)}" for name in sorted(commands)]
    parser = argparse.ArgumentParser(
        prog="sightline",
        usage="sightline [--version] [--debug] COMMAND ...",
        description="Score text against images, finely, and train on the scores.",
        epilog="\n".join(
            [
                "commands:",
                *lines,
                "",
                "`sightline COMMAND --help` explains one; begin with `serve`.",
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sightline {version('sightline')}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks and retries")
    return parser


def _summary(name: str) -> str:
    listing = LISTINGS.get(name)
    return listing.summary if listing is not None else ""


def _unknown(name: str, commands: Mapping[str, EntryPoint]) -> str:
    close = difflib.get_close_matches(name, commands, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "`sightline --help` lists the commands"
    return f"there is no command {name!r}: {hint}"


def _run(command: EntryPoint, arguments: Sequence[str], *, debug: bool) -> int:
    try:
        status = command.load()(arguments)
        sys.stdout.flush()
    except SystemExit as stop:
        return _status(stop)
    except KeyboardInterrupt:
        return _complain(command.name, "interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        if debug:
            raise
        return _explain(command.name, error)
    assert isinstance(status, int), f"the command {command.name} returns its exit status"
    return status


def _explain(name: str, error: Exception) -> int:
    if isinstance(error, ModuleNotFoundError):
        return _complain(name, _missing(name, error), FAILURE)
    if isinstance(error, ConfigurationError):
        return _complain(name, str(error), USAGE)
    if isinstance(error, ValidationError):
        return _complain(name, validation_detail(error).message, FAILURE)
    if isinstance(error, SightlineError | ValueError | OSError):
        return _complain(name, str(error) or type(error).__name__, FAILURE)
    text = f"internal error: {type(error).__name__}: {error}"
    return _complain(name, f"{text} (`sightline --debug {name} ...` shows where)", FAILURE)


def _missing(name: str, error: ModuleNotFoundError) -> str:
    listing = LISTINGS.get(name)
    extra = f"[{listing.extra}]" if listing is not None and listing.extra is not None else ""
    return f"the package {error.name!r} is not installed: pip install 'sightline{extra}'"


def _complain(name: str, message: str, status: int) -> int:
    sys.stderr.write(f"sightline{' ' if name else ''}{name}: {message}\n")
    return status


def _status(stop: SystemExit) -> int:
    if isinstance(stop.code, str):
        sys.stderr.write(f"{stop.code}\n")
        return FAILURE
    return stop.code or 0
