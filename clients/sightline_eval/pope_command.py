"""`sightline pope`: does a model see what is not there? Knows files and the terminal."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from sightline_eval.lmms_eval_samples import load_samples, pope_answers, split_of
from sightline_eval.pope import PopeScores, score_splits
from sightline_eval.pope_files import load_answers, load_questions
from sightline_eval.pope_questions import Question

_DESCRIPTION = """\
Scores yes/no answers with POPE (Li et al., 2023), split by split and over all. Give POPE's own
question files with a model's answers, a pair per split:

  sightline pope --questions random=q_random.jsonl adversarial=q_adversarial.jsonl \\
                 --answers   random=a_random.jsonl adversarial=a_adversarial.jsonl

or the logs of lmms-eval (tasks pope_random, pope_pop, pope_adv; --log_samples). Recall over all
three splits is what SVP calls object recall. "official" and "lmms-eval" read answers differently,
and their figures do not compare."""

Questions = dict[str, tuple[Question, ...]]
Answers = dict[str, dict[int, str]]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 1 with one line on stderr."""
    options = _options(argv)
    try:
        questions, answers = _read_logs(options) if options.samples else _read_files(options)
        scores = score_splits(questions, answers, mode=options.mode)
    except (ValueError, OSError) as error:
        Console(stderr=True).print(f"sightline pope: {error}", style="red", markup=False)
        return 1
    if options.json:
        printed = {split: asdict(of_split) for split, of_split in scores.items()}
        sys.stdout.write(json.dumps(printed, indent=2) + "\n")
    else:
        Console().print(_table(scores, options.mode))
    return 0


def _read_files(options: argparse.Namespace) -> tuple[Questions, Answers]:
    questions = {split: load_questions(path) for split, path in options.questions.items()}
    return questions, {split: load_answers(path) for split, path in options.answers.items()}


def _read_logs(options: argparse.Namespace) -> tuple[Questions, Answers]:
    questions: Questions = {}
    answers: Answers = {}
    for path in options.samples:
        split = split_of(path)
        if split in questions:
            raise ValueError(f"--samples has two logs of the split {split}: give one of each")
        questions[split], answers[split] = pope_answers(load_samples(path))
    return questions, answers


def _table(scores: Mapping[str, PopeScores], mode: str) -> Table:
    table = Table(f"POPE, {mode} reading", box=box.SIMPLE_HEAD)
    for name in ("accuracy", "precision", "recall", "F1", "yes", "questions", "unread"):
        table.add_column(name, justify="right")
    for split, found in scores.items():
        rates = (found.accuracy, found.precision, found.recall, found.f1, found.yes_ratio)
        counts = (f"{found.n_questions:,}", f"{found.n_unread:,}")
        table.add_row(split, *(rate.share() for rate in rates), *counts)
    return table


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "sightline pope",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    for option, fields in (
        ("--questions", "question_id, image, text, label"),
        ("--answers", "question_id, and answer or text"),
    ):
        add(option, nargs="+", default=[], metavar="SPLIT=FILE", help=f"JSON lines: {fields}")
    add("--samples", type=Path, nargs="+", metavar="FILE", help="sample logs of lmms-eval instead")
    add("--mode", choices=("official", "lmms-eval"), default="official", help="how to read answers")
    add("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    given = (bool(options.questions), bool(options.answers))
    if all(given) == bool(options.samples) or any(given) != all(given):
        parser.error("give --questions with --answers, or --samples")
    options.questions = _splits(parser, "--questions", options.questions)
    options.answers = _splits(parser, "--answers", options.answers)
    return options


def _splits(parser: argparse.ArgumentParser, option: str, given: Sequence[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for pair in given:
        split, separator, file = pair.partition("=")
        if not (split and separator and file):
            parser.error(f"{option} {pair!r}: write SPLIT=FILE, as in random=answers.jsonl")
        if split in files:
            parser.error(f"{option} names the split {split} twice")
        files[split] = Path(file)
    return files
