"""Model cards: metrics.json and README.md of a saved model. Knows figures; trains nothing."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_clip
from transformers import CLIPTokenizer

from sightline_world.scenes import scenes
from sightline_world.splits import Split
from sightline_world.training import captioner, detector, similarity
from sightline_world.training.captioner_quality import quality as captioner_quality
from sightline_world.training.detector import THRESHOLD
from sightline_world.training.detector import quality as detection_quality
from sightline_world.training.detector_quality import detect
from sightline_world.training.pool import load_pool
from sightline_world.training.similarity_quality import quality as similarity_quality
from sightline_world.weights import Model

_TEMPLATES = Path(__file__).parent / "card_templates"
_MEASURED: tuple[Split, ...] = ("validation", "test")


def write(model: Model, folder: Path, duration: str) -> None:
    """Measures the model in ``folder`` on both splits; writes metrics.json and README.md there."""
    recipes: dict[Model, similarity.Recipe | detector.Recipe | captioner.Recipe] = {
        "similarity": similarity.Recipe(),
        "detector": detector.Recipe(),
        "captioner": captioner.Recipe(),
        "plain": captioner.Recipe(phases=(captioner.PLAIN,)),
    }
    figures: dict[str, Any] = {split: MEASURE[model](folder, split) for split in _MEASURED}
    content: dict[str, Any] = {
        "model": model,
        "trained": duration,
        "recipe": asdict(recipes[model]),
        **figures,
    }
    text = json.dumps(content, indent=2) + "\n"
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(card(model, content), encoding="utf-8")


def card(model: Model, content: dict[str, Any]) -> str:
    """The model card: the template of the model with its figures as a table."""
    template = (_TEMPLATES / f"{model}.md").read_text(encoding="utf-8")
    rows = [
        f"| {name} | {_figure(value)} | {_figure(content['test'][name])} |"
        for name, value in content["validation"].items()
    ]
    table = "\n".join(["| figure | validation | test |", "|---|---|---|", *rows])
    return template.format(
        table=table, recipe=_settings(content["recipe"]), trained=content["trained"]
    )


def _settings(recipe: Mapping[str, Any]) -> str:
    """ "steps 10, batch 16"; phases in brackets."""
    phases = recipe.get("phases", ())
    shown = [f"phase {n} ({_settings(phase)})" for n, phase in enumerate(phases, start=1)]
    rest = (f"{name} {value}" for name, value in recipe.items() if name != "phases")
    return ", ".join([*shown, *rest])


def _figure(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def measure_similarity(folder: Path, split: Split, *, count: int = 2000) -> dict[str, float]:
    """AUROC figures of an open_clip folder."""
    model: Any = open_clip.create_model(f"local-dir:{folder}")
    with tempfile.TemporaryDirectory() as temporary:
        pool = load_pool(split, count, Path(temporary), processes=1)
    tokenizer = CLIPTokenizer.from_pretrained(folder)  # nosec B615 # a local folder
    return asdict(similarity_quality(model, tokenizer, pool, count))


def measure_detector(folder: Path, split: Split, *, count: int = 1000) -> dict[str, float]:
    """Precision and recall of a detector folder at the service's defaults."""
    drawn = list(scenes(split, count))
    found = detect(folder, [one.image for one in drawn])
    return asdict(detection_quality(found, [one.layout for one in drawn], THRESHOLD))


def measure_captioner(folder: Path, split: Split, *, count: int = 300) -> dict[str, float]:
    """CHAIR and POPE of a captioner folder, flattened: "greedy chair_s" and so on."""
    figures: dict[str, float] = {}
    for name, value in asdict(captioner_quality(folder, split, count)).items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        figures |= {f"{name.replace('_', ' ')} {part}".strip(): one for part, one in parts}
    return figures


MEASURE: dict[Model, Callable[[Path, Split], dict[str, float]]] = {
    "similarity": measure_similarity,
    "detector": measure_detector,
    "captioner": measure_captioner,
    "plain": measure_captioner,
}
