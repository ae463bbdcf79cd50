"""`sightline score`: captions against images, given as arguments or as JSONL. Knows no HTTP."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import track

from sightline.connection import add_connection_flags, connect
from sightline.rows import BadRow, Row, read_rows
from sightline.scoring import ScoredRow, score_rows
from sightline.terminal import Page

_EXAMPLES = """\
examples:
  sightline score photo.jpg --text "A dog on a sofa next to a cat."
  sightline score photo.jpg --text "A dog." --text "A cat." --level both --json
  sightline score --texts-file captions.jsonl --json > scores.jsonl

A line of captions.jsonl:
  {"image": "photo.jpg", "text": "A dog on a sofa."}
with "texts": [..] for several texts, and optionally "id", "token_offsets" (per text, the
[start, end] of each token) and "language_scores" (one number per text). Image paths are relative
to the file, or to the working directory where the lines come from stdin ("-").
"""


def main(argv: Sequence[str]) -> int:
    """Scores what the arguments name; returns 0, or 1 where any row failed."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not arguments.text and arguments.texts_file is None:
        parser.error("give --text or --texts-file")
    if arguments.text and not arguments.images:
        parser.error("--text needs an IMAGE")
    if arguments.texts_file is not None and len(arguments.images) > 1:
        parser.error("--texts-file takes at most one IMAGE, for the lines that name none")
    with connect(arguments) as client, ExitStack() as files:
        rows = list(_rows(arguments, files))
        outcomes = score_rows(client, rows, level=arguments.level, profile=arguments.profile)
        files.enter_context(closing(outcomes))
        return _report(_with_progress(outcomes, len(rows)), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sightline score",
        description="Score captions against images. Object words are coloured by their reward: "
        "green where the image bears them out, red where it does not.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="image files")
    parser.add_argument("--text", action="append", help="a caption; may be repeated")
    parser.add_argument("--texts-file", metavar="FILE", help="JSONL, one image a line; - for stdin")
    parser.add_argument(
        "--level",
        choices=("token", "sentence", "both"),
        default="token",
        help="what to score: object words, sentences, or both (default: %(default)s)",
    )
    parser.add_argument("--profile", help="calibration profile (default: the service's own)")
    parser.add_argument("--json", action="store_true", help="write one JSON object a line")
    add_connection_flags(parser)
    return parser


def _rows(arguments: argparse.Namespace, files: ExitStack) -> Iterator[Row | BadRow]:
    images: list[Path] = arguments.images
    for image in images if arguments.text else ():
        yield Row(origin=str(image), image=image, texts=tuple(arguments.text))
    if arguments.texts_file is not None:
        default = images[0] if images else None
        lines, name, folder = _open(arguments.texts_file, files)
        yield from read_rows(lines, name=name, folder=folder, image=default)


def _open(path: str, files: ExitStack) -> tuple[BinaryIO, str, Path]:
    if path == "-":
        return sys.stdin.buffer, "stdin", Path()
    return files.enter_context(open(path, "rb")), path, Path(path).parent


def _with_progress(outcomes: Iterator[ScoredRow], total: int) -> Iterator[ScoredRow]:
    """Shows a bar on stderr while results go to a file; in a terminal they are seen to come."""
    if sys.stdout.isatty() or not sys.stderr.isatty():
        yield from outcomes
        return
    yield from track(
        outcomes, description="scoring", total=total, console=Console(stderr=True), transient=True
    )


def _report(outcomes: Iterator[ScoredRow], arguments: argparse.Namespace) -> int:
    page = Page()
    failed = scored = 0
    for outcome in outcomes:
        if arguments.json:
            sys.stdout.write(json.dumps(_as_json(outcome), ensure_ascii=False) + "\n")
        elif outcome.error is None:
            _show(page, outcome)
        if outcome.error is None:
            scored += 1
        else:
            failed += 1
            sys.stderr.write(f"sightline score: {outcome.row.origin}: {outcome.error}\n")
    if scored and not arguments.json and arguments.level != "sentence":
        page.legend()
    return 1 if failed else 0


def _show(page: Page, outcome: ScoredRow) -> None:
    row = outcome.row
    assert isinstance(row, Row), "a bad row has an error"
    page.heading(str(row.image) if row.id is None else f"{row.image} ({row.id})")
    for number, text in enumerate(row.texts):
        if outcome.token is not None:
            page.tokens(text, outcome.token[number])
        if outcome.sentence is not None:
            page.sentences(text, outcome.sentence[number], with_text=outcome.token is None)


def _as_json(outcome: ScoredRow) -> dict[str, object]:
    row = outcome.row
    if isinstance(row, BadRow):
        return {"origin": row.origin, "error": outcome.error}
    known: dict[str, object] = {"origin": row.origin, "id": row.id, "image": str(row.image)}
    if outcome.error is not None:
        return {**known, "error": outcome.error}
    known["texts"] = row.texts
    if outcome.token is not None:
        known["token_reward"] = [result.model_dump(mode="json") for result in outcome.token]
    if outcome.sentence is not None:
        known["sentence_reward"] = [result.model_dump(mode="json") for result in outcome.sentence]
    return known
