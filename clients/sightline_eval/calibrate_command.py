"""`sightline calibrate`: captions and ground truth in, a profile out. Knows the terminal."""

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sightline import RewardClient, SightlineError
from sightline_eval.annotations import load_instances, load_references
from sightline_eval.calibration import (
    DEFAULT_MARGIN,
    SMALLEST_SHARE,
    Calibration,
    CaptionedImage,
    Margin,
    calibrate_profile,
    gather,
    score_mentions,
)
from sightline_eval.captions import load_captions
from sightline_eval.lexicon import Lexicon, load_lexicon
from sightline_eval.progress import progress_bar
from sightline_eval.service_process import ServiceStartError, running_service

WORLD_SCENES = 1000

_DESCRIPTION = """\
Builds a calibration profile for FiSAO's token rewards (Eq. 11): scores the objects that captions
name, splits them by ground truth into correct and hallucinated, and stores the two means, the
margin and the extreme scores. Objects are correct where the annotations hold them (CHAIR's clean
reading); objects that the data set does not annotate are left out."""

_EPILOG = """\
The margin keeps tokens near the means at reward 0. 4 suits CLIP on the scale of 100 * cosine (the
paper's 10 on its own scale). "auto", for models whose scores spread differently, takes the widest
margin that still rewards a third of the correct mentions and punishes a third of the others."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 1 with one line on stderr."""
    options = _options(argv)
    try:
        _run(options)
    except (ValueError, OSError, SightlineError, ServiceStartError) as error:
        Console(stderr=True).print(f"sightline calibrate: {error}", style="red", markup=False)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    lexicon = load_lexicon("clean")
    if options.world:
        images = _world_images(options.count, lexicon)
        margin, out = _given(options.margin, "auto"), options.out or _world_profile()
    else:
        images, lexicon = _images_on_disk(options, lexicon)
        margin, out = _given(options.margin, DEFAULT_MARGIN), options.out
    calibration = _calibrate(options, images, lexicon, margin)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(calibration.profile.to_json(), encoding="utf-8")
    if options.plot:
        from sightline_eval.figures import draw_calibration  # matplotlib loads slowly

        draw_calibration(calibration, options.plot)
    _show(calibration, out)


def _given(margin: Margin | None, default: Margin) -> Margin:
    return default if margin is None else margin


def _calibrate(
    options: argparse.Namespace,
    images: Sequence[CaptionedImage],
    lexicon: Lexicon,
    margin: Margin,
) -> Calibration:
    with ExitStack() as stack:
        url = options.url
        if options.world and url is None:
            only = ("--profile", "none", "--detector", "none", "--perplexity", "none")
            service = stack.enter_context(running_service(only))
            service.await_ready()
            url = service.url
        client = stack.enter_context(RewardClient(url))
        advance = stack.enter_context(progress_bar("Scoring captions", len(images)))
        scores = score_mentions(client, images, lexicon, on_progress=advance)
    return calibrate_profile(scores, name=options.name, margin=margin)


def _images_on_disk(
    options: argparse.Namespace, lexicon: Lexicon
) -> tuple[tuple[CaptionedImage, ...], Lexicon]:
    annotations = load_instances(options.instances)
    lexicon = lexicon.with_names(annotations.categories)
    references = load_references(options.references) if options.references else None
    captions = load_captions(options.captions, annotations.file_names)
    files = {image: _reader(options.images, name) for image, name in annotations.file_names.items()}
    return gather(captions, files, annotations.truth(lexicon, references)), lexicon


def _reader(folder: Path, name: str) -> Callable[[], bytes]:
    return (folder / name).read_bytes


def _world_images(count: int, lexicon: Lexicon) -> tuple[CaptionedImage, ...]:
    # The world's sprites and captioner are not needed to calibrate on one's own data.
    from sightline_eval.world_captions import caption_scenes, draw_scenes, load_captioner

    with progress_bar("Drawing scenes", count) as advance:
        drawn = draw_scenes("calibration", count, on_progress=advance)
    with progress_bar("Captioning scenes", count) as advance:
        captioned = caption_scenes(load_captioner(), drawn, on_progress=advance)
    return tuple(
        CaptionedImage(
            name=str(item.scene.index),
            read=partial(bytes, item.png),
            captions=(item.greedy, item.sampled),
            truth=frozenset(lexicon.objects[name] for name in item.scene.layout.names),
        )
        for item in captioned
    )


def _world_profile() -> Path:
    from sightline_world.weights import path

    return path("similarity").parent / "profile.json"


def _show(calibration: Calibration, out: Path) -> None:
    profile, scores = calibration.profile, calibration.scores
    table = Table(title=f"Profile {profile.name} of {profile.model_id}", show_header=False)
    rows = (
        ("mu_gt, mean of correct", f"{profile.mu_gt:.3f}  (n = {profile.n_gt:,})"),
        ("mu_hal, mean of hallucinated", f"{profile.mu_hal:.3f}  (n = {profile.n_hal:,})"),
        ("not annotated, left out", f"{scores.n_unlabelled:,}"),
        ("AUROC", f"{calibration.auroc:.3f}"),
        ("range of scores", f"{profile.s_min:.3f} to {profile.s_max:.3f}  ({profile.scale})"),
        ("margin", f"{profile.margin:.3f}"),
        ("supported above", f"{profile.upper:.3f}  ({calibration.share_supported:.1%} of all)"),
        ("hallucinated below", f"{profile.lower:.3f}  ({calibration.share_hallucinated:.1%})"),
        ("digest", profile.digest[:16]),
    )
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(f"Wrote {out}", markup=False, soft_wrap=True)
    for side, share in (
        ("above the upper", calibration.share_supported),
        ("below the lower", calibration.share_hallucinated),
    ):
        if share < SMALLEST_SHARE:
            Console(stderr=True).print(
                f"Only {share:.2%} of the mentions lie {side} threshold: the margin is too large "
                "for this model; try --margin auto",
                style="yellow",
            )


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(argv)
    needed = ("captions", "images", "instances", "out")
    missing = [f"--{name}" for name in needed if getattr(options, name) is None]
    if missing and not options.world:
        parser.error(f"give {', '.join(missing)}, or --world for the embedded world")
    if options.count < 1:
        parser.error(f"--count is {options.count}: give 1 or more")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "sightline calibrate",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--captions", type=Path, help='JSON lines: "caption" and "image_id" or "image"')
    add("--images", type=Path, help="folder of the images")
    add("--instances", type=Path, help="COCO-format annotations: which objects are where")
    add("--references", type=Path, help="COCO-format captions, whose objects count as present too")
    add("--out", type=Path, help="the profile to write (JSON)")
    add("--plot", type=Path, help="also draw both score distributions into this file (PNG, SVG)")
    add("--name", default="default", help="the profile's name (default: %(default)s)")
    add("--margin", type=_margin, help='lambda, or "auto" (default: 4; auto with --world)')
    add("--url", help="the reward service (default: REWARD_URL; with --world one is started)")
    add("--world", action="store_true", help="calibrate the embedded world's own verifier")
    add(
        "--count",
        type=int,
        default=WORLD_SCENES,
        help="scenes drawn with --world (default: %(default)s)",
    )
    return parser


def _margin(text: str) -> Margin:
    return "auto" if text == "auto" else float(text)
