"""The whole rebuild: draws the pool, trains the models in order, writes their cards.

Knows the recipes and the terminal's progress bar. The detector and the captioner start from the
similarity model, the plain captioner from the captioner: those are trained or taken from the output
folder first.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import open_clip
from open_clip.model import CLIP
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from transformers import CLIPTokenizer

from sightline_world.scenes import scenes
from sightline_world.training import captioner, cards, detector, similarity
from sightline_world.training.detector_quality import detect
from sightline_world.training.pool import Pool, load_pool
from sightline_world.weights import Model

POOL_SCENES = 72_000
_CALIBRATION_SCENES = 500


class _Run(Protocol):
    def step(self) -> dict[str, float]: ...


def rebuild(
    models: Sequence[Model], out: Path, *, pool: Path | None, seed: int, threads: int
) -> None:
    """Trains ``models`` from nothing into ``out``/<model>, each with its measured model card.

    ``seed`` is added to the recipes' own seeds. Drawn scenes go to ``pool``, or to a temporary
    folder. Raises ``FileNotFoundError`` when ``out`` lacks the model that another starts from.
    """
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="sightline-world-") as temporary:
        console.print(f"drawing {POOL_SCENES} training scenes")
        drawn = load_pool("train", POOL_SCENES, pool or Path(temporary))
        for model in models:
            started = time.monotonic()
            _TRAIN[model](drawn, out, seed, threads)
            minutes = (time.monotonic() - started) / 60
            console.print(f"{model}: trained in {minutes:.0f} minutes; measuring")
            cards.write(model, out / model, f"{minutes:.0f} minutes with {threads} threads")


def _similarity(pool: Pool, out: Path, seed: int, threads: int) -> None:
    recipe = similarity.Recipe(seed=similarity.Recipe().seed + seed, threads=threads)
    trainer = similarity.Trainer(pool, recipe)
    _run("similarity", trainer, recipe.total)
    similarity.save(trainer.model, trainer.tokenizer, out / "similarity")


def _detector(pool: Pool, out: Path, seed: int, threads: int) -> None:
    clip, tokenizer = _clip(out)
    recipe = detector.Recipe(seed=detector.Recipe().seed + seed, threads=threads)
    trainer = detector.Trainer(clip, tokenizer, pool, recipe)
    _run("detector", trainer, recipe.total)
    detector.save(trainer.model, tokenizer, out / "detector")
    drawn = list(scenes("calibration", _CALIBRATION_SCENES))
    found = detect(out / "detector", [one.image for one in drawn])
    detector.calibrate(trainer.model, found, [one.layout for one in drawn])
    detector.save(trainer.model, tokenizer, out / "detector")


def _captioner(pool: Pool, out: Path, seed: int, threads: int) -> None:
    clip, _ = _clip(out)
    recipe = captioner.Recipe(seed=captioner.Recipe().seed + seed, threads=threads)
    trainer = captioner.Trainer(clip, pool, recipe)
    _run("captioner", trainer, recipe.total)
    captioner.save(trainer.model, trainer.tokenizer, out / "captioner")


def _plain(pool: Pool, out: Path, seed: int, threads: int) -> None:
    clip, _ = _clip(out)
    start = out / "captioner"
    if not start.is_dir():
        raise FileNotFoundError(
            f"{start} is missing: train the captioner first (`train captioner`)"
        )
    recipe = captioner.Recipe(phases=(captioner.PLAIN,))
    recipe = replace(recipe, seed=recipe.seed + seed, threads=threads)
    trainer = captioner.Trainer(clip, pool, recipe, start=start)
    _run("plain", trainer, recipe.total)
    captioner.save(trainer.model, trainer.tokenizer, out / "plain")


_TRAIN: dict[Model, Callable[[Pool, Path, int, int], None]] = {
    "similarity": _similarity,
    "detector": _detector,
    "captioner": _captioner,
    "plain": _plain,
}


def _clip(out: Path) -> tuple[CLIP, CLIPTokenizer]:
    folder = out / "similarity"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is missing: train the similarity model first (`train similarity`)"
        )
    model: Any = open_clip.create_model(f"local-dir:{folder}")
    return model.eval(), CLIPTokenizer.from_pretrained(folder)  # nosec B615 # a local folder


def _run(name: str, trainer: _Run, steps: int) -> None:
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=steps)
        for _ in range(steps):
            losses = trainer.step()
            shown = "  ".join(f"{key} {value:.2f}" for key, value in losses.items())
            progress.update(task, advance=1, description=f"{name}  {shown}")
