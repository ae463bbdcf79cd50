"""`sightline chair`: how much do these captions hallucinate? Knows files and the terminal."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from sightline_eval.annotations import load_instances, load_references
from sightline_eval.captions import load_captions
from sightline_eval.chair import ChairScores, chair
from sightline_eval.lexicon import load_lexicon

_DESCRIPTION = """\
Scores captions with CHAIR (Rohrbach et al., 2018) against COCO-format annotations. "strict"
repeats the slips of the published code, for comparison with published numbers; "clean" mends them.
Compare only captions of the same images, prompt and length limit."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 1 with one line on stderr."""
    options = _parser().parse_args(argv)
    try:
        scores = _score(options)
    except (ValueError, OSError) as error:
        Console(stderr=True).print(f"sightline chair: {error}", style="red", markup=False)
        return 1
    if options.json:
        sys.stdout.write(json.dumps(asdict(scores), indent=2) + "\n")
    else:
        Console().print(_table(scores, options.mode))
    return 0


def _score(options: argparse.Namespace) -> ChairScores:
    annotations = load_instances(options.instances)
    lexicon = load_lexicon(options.mode)
    if options.mode == "clean":
        lexicon = lexicon.with_names(annotations.categories)
    references = load_references(options.references) if options.references else None
    captions = load_captions(options.captions, annotations.file_names)
    return chair(captions, annotations.truth(lexicon, references), lexicon)


def _table(scores: ChairScores, mode: str) -> Table:
    table = Table(f"CHAIR, {mode} mode", f"{scores.n_captions:,} captions", box=box.SIMPLE_HEAD)
    table.add_row("CHAIR_s, captions that hallucinate", scores.chair_s.share())
    table.add_row("CHAIR_i, mentions that are hallucinated", scores.chair_i.share())
    table.add_row("recall, annotated objects named", scores.recall.share())
    table.add_row("words in a caption", f"{scores.words.value:.1f}")
    table.add_row("objects in a caption", f"{scores.objects.value:.2f}")
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "sightline chair",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--captions",
        type=Path,
        required=True,
        help='JSON lines: "caption" and "image_id" or "image"',
    )
    add("--instances", type=Path, required=True, help="COCO-format annotations")
    add("--references", type=Path, help="COCO-format captions, whose objects count as present too")
    add("--mode", choices=("strict", "clean"), default="strict", help="(default: %(default)s)")
    add("--json", action="store_true", help="print JSON")
    return parser
