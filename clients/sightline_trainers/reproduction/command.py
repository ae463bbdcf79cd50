"""`sightline reproduce METHOD --out DIR`: trains, evaluates, reports. Knows the terminal."""

import argparse
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path

from sightline import SightlineError
from sightline_trainers.reproduction.plan import FEWEST_SCENES, PLANS

_WORLD = "world"

_DESCRIPTION = """\
Re-runs a paper's headline comparison on the embedded world: starts the reward service, trains the
method, its baseline and its ablations from the recipe world_METHOD.yaml, asks every policy about
held-out scenes, and writes results.json and report.html. What is finished in DIR is reused and what
was interrupted goes on, so the same command can be given again.
`sightline reproduce summary RESULT [RESULT ...]` merges several seeds into tables."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 1 with the reason on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    summarises = arguments[:1] == ["summary"]
    try:
        options = _summary_options(arguments[1:]) if summarises else _checked(_options(arguments))
    except ValueError as error:
        sys.stderr.write(f"sightline reproduce: {error}\n")
        return 1
    # Imported here because torch takes seconds, which a wrong argument should not.
    from sightline_eval.service_process import ServiceStartError
    from sightline_trainers.reproduction.training import TrainingFailedError
    from sightline_trainers.rewards import RewardOutageError, RewardRefusedError

    expected = (ValueError, OSError, SightlineError, ServiceStartError, TrainingFailedError)
    try:
        (_summarise if summarises else _reproduce)(options)
    except (*expected, RewardOutageError, RewardRefusedError) as error:
        sys.stderr.write(f"sightline reproduce: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("sightline reproduce: stopped; the same command goes on from here\n")
        return 130
    return 0


def _reproduce(options: argparse.Namespace) -> None:
    import torch
    from transformers.utils import logging

    from sightline_trainers.checkpoint import write_whole
    from sightline_trainers.reproduction.exam import build_exam
    from sightline_trainers.reproduction.experiment import RESULTS, Experiment, Setting
    from sightline_trainers.reproduction.panels import Evidence
    from sightline_trainers.reproduction.report import render_report

    plan = PLANS[options.method]
    setting = Setting(
        plan=plan,
        variants=options.variants,
        out=options.out,
        recipe=_recipe(plan.method),
        fields=options.set,
        seed=options.seed,
        policy=options.policy,
    )
    torch.set_num_threads(1)  # a small model gains nothing from more, and trainings need the rest
    # Its bar over the weights would interleave with ours. The function carries no annotations.
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    exam = build_exam(options.split, options.scenes)
    experiment = Experiment(setting, exam, serve=partial(_service, options.url, plan.service))
    report = setting.out / "report.html"
    for results in experiment.run():
        evidence = Evidence(results, setting.out, experiment.answers)
        write_whole(report, render_report(evidence, exam))
    sys.stdout.write(f"results: {setting.out / RESULTS}\nreport: {report}\n")


def _summarise(options: argparse.Namespace) -> None:
    from sightline_trainers.reproduction.experiment import RESULTS
    from sightline_trainers.reproduction.results import read_results
    from sightline_trainers.reproduction.summary import summarise_all

    files = [path / RESULTS if path.is_dir() else path for path in options.results]
    sys.stdout.write(summarise_all([read_results(file) for file in files]))


@contextmanager
def _service(url: str | None, options: Sequence[str]) -> Generator[str, None, None]:
    """The URL of a service: the one that is named, or one that runs as long as the block."""
    from sightline_eval.progress import progress_bar
    from sightline_eval.service_process import running_service

    if url is not None:
        yield url
        return
    with running_service(("--torch-threads", "1", *options)) as service:
        with progress_bar("Waiting for the service", 1) as advance:
            service.await_ready()
            advance(1)
        yield service.url


def _recipe(method: str) -> Path:
    return Path(str(files("sightline_trainers") / "recipes" / f"world_{method}.yaml"))


def _checked(options: argparse.Namespace) -> argparse.Namespace:
    """The options with variants, folders and fields as they are used.

    Raises:
        ValueError: one is impossible; the message says which.
    """
    if options.scenes < FEWEST_SCENES:
        raise ValueError(f"scenes is {options.scenes}: give {FEWEST_SCENES} or more")
    names = [name for name in options.variants.split(",") if name]
    options.variants = PLANS[options.method].choose(names)
    if options.policy.partition(":")[0] != _WORLD:
        folder = Path(options.policy).absolute()
        if not (folder / "config.json").is_file():
            raise ValueError(f"policy {options.policy!r} is no model's folder: no config.json")
        options.policy = str(folder)
    fields = [each.partition("=") for each in options.set]
    for name, equals, value in fields:
        if not (name and equals):
            raise ValueError(f"set {name + equals + value!r}: write FIELD=VALUE")
    options.set = {name: value for name, _, value in fields}
    options.out = _writable(options.out.absolute())
    return options


def _writable(folder: Path) -> Path:
    """The folder, which exists from here on.

    Raises:
        ValueError: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"out {str(folder)!r} cannot be a folder: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise ValueError(f"out {str(folder)!r} cannot be written: give another folder")
    return folder


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    variants = [f"  {m:<6} {', '.join(v.name for v in PLANS[m].variants)}" for m in sorted(PLANS)]
    parser = argparse.ArgumentParser(
        "sightline reproduce",
        description=_DESCRIPTION,
        epilog="\n".join(["variants:", *variants]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("method", choices=sorted(PLANS))
    add("--out", type=Path, required=True, metavar="DIR", help="folder, one per seed and policy")
    add("--seed", type=int, default=0, help="of the trainings (default: %(default)s)")
    add("--variants", default="all", metavar="NAMES", help="main, all, or NAME,NAME (default: all)")
    add("--scenes", type=int, default=300, help="held-out scenes (default: %(default)s)")
    choices = ("test", "validation")
    add("--split", choices=choices, default="test", help="validation is for tuning (default: test)")
    add(
        "--policy", default=_WORLD, metavar="FOLDER", help="align this model (default: %(default)s)"
    )
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="overrides the recipe")
    add("--url", help="use this service instead of starting one")
    return parser.parse_args(arguments)


def _summary_options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "sightline reproduce summary",
        description="Merges the results of several seeds into a Markdown table for each method "
        "and policy among them, beside the paper's numbers, and says which targets are met.",
    )
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULT", help="a folder DIR, or its results.json"
    )
    return parser.parse_args(arguments)
