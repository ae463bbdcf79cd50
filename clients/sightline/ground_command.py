"""`sightline ground`: where in an image are these things? Knows no HTTP."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import PIL.Image

from sightline.connection import add_connection_flags, connect
from sightline.drawing import draw_boxes
from sightline.terminal import Page
from sightline_proto import GroundRequest

_EXAMPLES = """\
examples:
  sightline ground photo.jpg --phrase dog --phrase "hot dog" --out boxes.png
  sightline ground photo.jpg --text "A dog sleeps on a sofa." --json
"""


def main(argv: Sequence[str]) -> int:
    """Finds what the arguments name, prints it, and draws it where --out is given."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    out: Path | None = arguments.out
    if out is not None and out.suffix.lower() not in PIL.Image.registered_extensions():
        parser.error(f"--out {out}: no image format has this ending; try .png")
    with connect(arguments) as client:
        result = client.ground(
            arguments.image,
            arguments.phrase,
            text=arguments.text,
            box_threshold=arguments.box_threshold,
            text_threshold=arguments.text_threshold,
            nms_iou=arguments.nms_iou,
            max_boxes=arguments.max_boxes,
        )
    if arguments.json:
        sys.stdout.write(result.model_dump_json() + "\n")
    else:
        page = Page()
        page.heading(str(arguments.image))
        page.detections(result.detections)
    if out is not None:
        with PIL.Image.open(arguments.image) as image:
            draw_boxes(image, result.detections).save(out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sightline ground",
        description="Find phrases, or the objects that a text names, in an image.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="an image file")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--phrase", action="append", help="what to find; may be repeated")
    what.add_argument("--text", help="a text whose objects are to be found")
    for name, meaning in (
        ("box_threshold", "least score of a box"),
        ("text_threshold", "least score of a word in a label"),
        ("nms_iou", "overlap above which the weaker box is dropped"),
        ("max_boxes", "most boxes"),
    ):
        default: float | int = GroundRequest.model_fields[name].default
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            default=default,
            metavar="N" if isinstance(default, int) else "X",
            help=f"{meaning} (default: %(default)s)",
        )
    parser.add_argument("--json", action="store_true", help="write the result as JSON")
    parser.add_argument("--out", type=Path, metavar="FILE", help="draw the boxes into this image")
    add_connection_flags(parser)
    return parser
