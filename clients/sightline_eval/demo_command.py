"""`sightline demo`: a service, 200 fresh scenes, the figures and a page. Knows the terminal."""

import argparse
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from sightline import RewardClient, SightlineError
from sightline_eval.demo import Demo, caption_fresh_scenes, run_demo
from sightline_eval.page import headline, render_page
from sightline_eval.progress import progress_bar
from sightline_eval.service_process import ServiceStartError, running_service
from sightline_eval.tables import PlainTable, tabulate
from sightline_eval.world_captions import load_captioner

_DESCRIPTION = """\
Starts the reward service on a free port, draws fresh scenes of the embedded world, lets its
captioner describe them, scores everything over HTTP, prints how well single words and whole
captions tell hallucinated objects from real ones, and writes a page with pictures."""

_OPTIONS = ("--torch-threads", "1", "--perplexity", "none")  # one core is left for the captioner


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 1 with the reason on stderr."""
    options = _options(argv)
    try:
        demo = _run(options)
    except (ValueError, OSError, SightlineError, ServiceStartError) as error:
        Console(stderr=True).print(f"sightline demo: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        Console(stderr=True).print("sightline demo: stopped", markup=False)
        return 130
    _show(demo, _write(demo, options.out))
    return 0


def _run(options: argparse.Namespace) -> Demo:
    with ExitStack() as stack:
        service = None if options.url else stack.enter_context(running_service(_OPTIONS))
        # While the service loads its models in a process of its own:
        captioned = caption_fresh_scenes(
            load_captioner(), count=options.count, seed=options.seed, progress_bar=progress_bar
        )
        if service is not None:
            with progress_bar("Waiting for the service", 1) as advance:
                service.await_ready()
                advance(1)
        url = options.url or (service.url if service else None)
        client = stack.enter_context(RewardClient(url))
        return run_demo(client, captioned, seed=options.seed, progress_bar=progress_bar)


def _write(demo: Demo, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    results = json.dumps(demo.to_json(), indent=2, allow_nan=False)
    (folder / "results.json").write_text(results + "\n", encoding="utf-8")
    page = folder / "index.html"
    page.write_text(render_page(demo), encoding="utf-8")
    return page


def _show(demo: Demo, page: Path) -> None:
    console = Console()
    for table in tabulate(demo.findings):
        console.print(f"\n{table.title}", style="bold", markup=False, highlight=False)
        console.print(_rich_table(table), end="")
        console.print(table.note, style="dim", markup=False, highlight=False)
    console.print()
    console.print(headline(demo.findings), style="bold", markup=False)
    console.print(f"Pictures of {demo.count} scenes and these tables: {page}", markup=False)


def _rich_table(table: PlainTable) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, column in enumerate(table.columns):
        shown.add_column(column, justify="right" if number else "left")
    for row in table.rows:
        shown.add_row(*row)
    return shown


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("sightline demo", description=_DESCRIPTION)
    add = parser.add_argument
    add("--count", type=int, default=200, help="scenes (default: %(default)s)")
    add("--seed", type=int, default=0, help="chooses the scenes (default: %(default)s)")
    add("--out", type=Path, default=Path("demo"), help="folder to write (default: %(default)s)")
    add("--url", help="score with this service instead of starting one")
    options = parser.parse_args(argv)
    if options.count < 1 or options.seed < 0:
        parser.error(f"--count {options.count} --seed {options.seed}: give 1 or more, 0 or more")
    return options
