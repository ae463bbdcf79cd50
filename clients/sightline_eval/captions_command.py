"""`sightline captions`: BLEU, METEOR, ROUGE-L, CIDEr of captions. Knows files and the terminal."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from sightline_eval.annotations import load_file_names, load_references
from sightline_eval.caption_metrics import CaptionScores, score_captions
from sightline_eval.captions import Caption, load_captions
from sightline_eval.lmms_eval_samples import captions_with_references, load_samples

_DESCRIPTION = """\
Scores captions against reference captions, without Java. Give captions and COCO-format references,
or a sample log of lmms-eval (a captioning or referring-expression task; --log_samples). BLEU,
ROUGE-L and CIDEr agree with pycocoevalcap; METEOR compares with other scores of this command only.
CIDEr weighs words by the references of the scored images: compare models on the same images."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 1 with one line on stderr."""
    options = _options(argv)
    try:
        scores = score_captions(*_read(options))
    except (ValueError, OSError) as error:
        Console(stderr=True).print(f"sightline captions: {error}", style="red", markup=False)
        return 1
    if options.json:
        sys.stdout.write(json.dumps(asdict(scores), indent=2) + "\n")
    else:
        Console().print(_table(scores))
    return 0


def _read(
    options: argparse.Namespace,
) -> tuple[tuple[Caption, ...], Mapping[int, Sequence[str]]]:
    if options.samples:
        return captions_with_references(load_samples(options.samples))
    captions = load_captions(options.captions, load_file_names(options.references))
    return captions, load_references(options.references)


def _table(scores: CaptionScores) -> Table:
    table = Table("metric", f"{scores.n_captions:,} captions", box=box.SIMPLE_HEAD)
    for order, value in enumerate(scores.bleu, start=1):
        table.add_row(f"BLEU-{order}", value.number())
    table.add_row("METEOR", scores.meteor.number())
    table.add_row("ROUGE-L", scores.rouge_l.number())
    table.add_row("CIDEr (papers often print 100 times this)", scores.cider.number())
    table.add_row("words in a caption", f"{scores.words.value:.1f}")
    return table


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "sightline captions",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--captions", type=Path, help='JSON lines: "caption" and "image_id" or "image"')
    add("--references", type=Path, help="COCO-format captions")
    add("--samples", type=Path, metavar="FILE", help="a sample log of lmms-eval instead")
    add("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    pair = (options.captions, options.references)
    if all(pair) == bool(options.samples) or any(pair) != all(pair):
        parser.error("give --captions with --references, or --samples")
    return options
