"""Trains the detector, an OWL-ViT that starts from the world's CLIP. Knows scenes, no service.

Losses as in DETR and OWL-ViT: one-to-one matching, focal classification over the 67 names, L1 and
generalised IoU on matched boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import generalized_box_iou  # type: ignore[import-untyped]  # no types
from transformers import (
    CLIPTokenizer,
    OwlViTConfig,
    OwlViTForObjectDetection,
    OwlViTImageProcessor,
    OwlViTProcessor,
)

from sightline_world.categories import CATEGORIES, INDEX, NAMES
from sightline_world.scenes import SIZE, Layout
from sightline_world.training.conversion import to_transformers
from sightline_world.training.metrics import iou
from sightline_world.training.optimiser import Optimiser, prepare_cpu
from sightline_world.training.pool import MODEL_SIZE, Pool
from sightline_world.training.similarity import encode_text, pixel_values, token_ids
from sightline_world.training.storage import save_half

THRESHOLD = 0.35  # the service's default score threshold; the score scale is calibrated to it
QUERY_TOKENS = 16  # queries are filled up to this length, as in the published OWL-ViTs
_CLASS, _L1, _GIOU = 2.0, 5.0, 2.0  # loss weights


@dataclass(frozen=True, slots=True)
class Recipe:
    """What fixes the result of a training run, besides the pool and the CLIP."""

    steps: int = 3500
    batch: int = 48
    peak: float = 8e-4
    seed: int = 1
    threads: int = 1

    @property
    def total(self) -> int:
        """All steps of the run."""
        return self.steps


def build(clip: CLIP) -> OwlViTForObjectDetection:
    """An OWL-ViT whose towers are the CLIP's and whose heads are fresh.

    The classification head starts as CLIP's visual projection. transformers initialises the heads'
    other layers with a standard deviation of 1, from which boxes never recover; drawn anew here.
    """
    source = to_transformers(clip)
    config: Any = source.config
    vision, text = config.vision_config.to_dict(), config.text_config.to_dict()
    depth = ("num_hidden_layers", "num_attention_heads")
    shared = ("hidden_size", "intermediate_size", "hidden_act", *depth)
    tokens = ("vocab_size", "max_position_embeddings")
    special = ("bos_token_id", "eos_token_id", "pad_token_id")
    model = OwlViTForObjectDetection(
        OwlViTConfig(
            projection_dim=config.projection_dim,
            vision_config={k: vision[k] for k in (*shared, "image_size", "patch_size")},
            text_config={k: text[k] for k in (*shared, *tokens, *special)},
        )
    )
    weights = source.state_dict()
    renamed = {k.replace("pre_layrnorm", "pre_layernorm"): v for k, v in weights.items()}
    loaded = model.owlvit.load_state_dict(renamed, strict=False)
    assert not loaded.unexpected_keys, loaded.unexpected_keys
    _initialise_heads(model, weights["visual_projection.weight"])
    return model


@torch.no_grad()
def _initialise_heads(model: OwlViTForObjectDetection, projection: Tensor) -> None:
    boxes, classes = model.box_head, model.class_head
    for layer in (boxes.dense0, boxes.dense1):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.normal_(boxes.dense2.weight, std=0.01)
    nn.init.zeros_(boxes.dense2.bias)
    classes.dense0.weight.copy_(projection)
    nn.init.zeros_(classes.dense0.bias)
    for layer in (classes.logit_shift, classes.logit_scale):
        nn.init.zeros_(layer.weight)
    classes.logit_shift.bias.fill_(-0.5)
    classes.logit_scale.bias.fill_(9.0)
    classes.logit_scale.weight.requires_grad_(False)  # one scale for all patches: see `calibrate`


def predict(
    model: OwlViTForObjectDetection, pixels: Tensor, queries: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits (B, 64, Q), and boxes (B, 64, 4) as centre and size in [0, 1]."""
    network: Any = model  # its methods are annotated as returning 1-tuples
    grid, _ = network.image_embedder(pixel_values=pixels)
    patches = grid.flatten(1, 2)
    logits, _ = network.class_predictor(patches, queries[None].expand(len(pixels), -1, -1))
    return logits.float(), network.box_predictor(patches, grid).float()


def corners(boxes: Tensor) -> Tensor:
    """Centre and size to (x1, y1, x2, y2)."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


class Trainer:
    """One run over a pool, step by step."""

    def __init__(self, clip: CLIP, tokenizer: CLIPTokenizer, pool: Pool, recipe: Recipe) -> None:
        prepare_cpu(recipe.threads, recipe.seed)
        self.recipe = recipe
        self.model = build(clip)
        for name, parameter in self.model.named_parameters():
            if "text" in name or name == "owlvit.logit_scale":
                parameter.requires_grad_(False)
        self._pool = pool
        self._rng = np.random.default_rng(recipe.seed)
        self._queries = _query_forms(clip, tokenizer)
        self._optimiser = Optimiser(self.model.parameters(), peak=recipe.peak, steps=recipe.steps)

    def step(self) -> dict[str, float]:
        """One update; returns the three losses."""
        picked = np.sort(self._rng.choice(len(self._pool), self.recipe.batch, replace=False))
        queries = self._queries[int(self._rng.integers(len(self._queries)))]
        with torch.autocast("cpu", torch.bfloat16):
            pixels = pixel_values(self._pool.pixels[picked])
            logits, boxes = predict(self.model, pixels, queries)
        wanted = torch.zeros_like(logits)
        matched: list[Tensor] = []
        truth: list[Tensor] = []
        for row, index in enumerate(picked):
            labels, target = _truth(self._pool.layouts[index])
            patches, objects = _match(logits[row], boxes[row], labels, target)
            wanted[row, patches, labels[objects]] = 1
            matched.append(boxes[row, patches])
            truth.append(target[objects])
        losses = _losses(logits, wanted, torch.cat(matched), torch.cat(truth))
        self._optimiser.step(sum(losses.values(), torch.zeros(())))
        return {name: value.item() for name, value in losses.items()}


def _query_forms(clip: CLIP, tokenizer: CLIPTokenizer) -> list[Tensor]:
    """Text embeddings (67, 128): bare names (twice as often), with an article, in the plural."""
    names = list(NAMES)
    phrases, plurals = ([getattr(c, k) for c in CATEGORIES] for k in ("noun_phrase", "plural"))
    with torch.no_grad():
        return [
            encode_text(clip, token_ids(tokenizer, t)) for t in (names, names, phrases, plurals)
        ]


def _truth(layout: Layout) -> tuple[Tensor, Tensor]:
    """Category indices (n,) and boxes (n, 4) as centre and size in [0, 1]."""
    labels = torch.tensor([INDEX[thing.name] for thing in layout.objects])
    edges = torch.tensor([thing.box for thing in layout.objects], dtype=torch.float32) / SIZE
    return labels, torch.cat(
        [(edges[:, :2] + edges[:, 2:]) / 2, edges[:, 2:] - edges[:, :2]], dim=1
    )


@torch.no_grad()
def _match(logits: Tensor, boxes: Tensor, labels: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The one-to-one assignment of patches to objects with the least cost."""
    cost = -_CLASS * logits.sigmoid()[:, labels] + _L1 * torch.cdist(boxes, target, p=1)
    cost = cost - _GIOU * generalized_box_iou(corners(boxes), corners(target))
    patches, objects = linear_sum_assignment(cost.numpy())
    return torch.from_numpy(patches), torch.from_numpy(objects)


def _losses(logits: Tensor, wanted: Tensor, matched: Tensor, truth: Tensor) -> dict[str, Tensor]:
    count = len(matched)
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    sure = torch.where(wanted > 0, logits.sigmoid(), 1 - logits.sigmoid())
    giou = torch.diagonal(generalized_box_iou(corners(matched), corners(truth)))
    return {
        "class": _CLASS * (entropy * (1 - sure) ** 2).sum() / count,
        "l1": _L1 * (matched - truth).abs().sum() / count,
        "giou": _GIOU * (1 - giou).sum() / count,
    }


@dataclass(frozen=True, slots=True)
class Detections:
    """Findings in one scene: scores (n,), category indices (n,), boxes (n, 4) in [0, 1]."""

    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Quality:
    """Precision and recall at IoU 0.5 with correct name, at a threshold after suppression."""

    scenes: int
    threshold: float
    precision: float
    recall: float
    mean_iou: float


def quality(found: Sequence[Detections], layouts: Sequence[Layout], threshold: float) -> Quality:
    """Scores detections of whole scenes; each object is found at most once."""
    said = hit = there = 0
    overlaps: list[float] = []
    for one, layout in zip(found, layouts, strict=True):
        kept = one.scores >= threshold
        said += int(kept.sum())
        there += len(layout.objects)
        for thing in layout.objects:
            mine = kept & (one.labels == INDEX[thing.name])
            truth = np.array([thing.box], dtype=np.float64) / SIZE
            best = iou(one.boxes[mine], truth).max(initial=0.0)
            hit += best >= 0.5
            overlaps += [float(best)] if best >= 0.5 else []
    return Quality(
        len(layouts), threshold, hit / max(1, said), hit / there, float(np.mean(overlaps or [0]))
    )


def calibrate(
    model: OwlViTForObjectDetection, found: Sequence[Detections], layouts: Sequence[Layout]
) -> float:
    """Shifts the scores so that precision and recall balance at ``THRESHOLD``.

    Returns the old threshold.

    The best threshold t on the calibration scenes (largest min(precision, recall)) becomes 0.35 by
    adding logit(0.35) - logit(t) to every logit, exactly: all patches share one scale.
    """
    best = max(
        np.arange(0.05, 0.9, 0.01),
        key=lambda t: min((q := quality(found, layouts, float(t))).precision, q.recall),
    )
    offset = np.log(THRESHOLD / (1 - THRESHOLD)) - np.log(best / (1 - best))
    head = model.class_head
    with torch.no_grad():
        scale = functional.elu(head.logit_scale.bias) + 1
        head.logit_shift.bias.add_(offset / scale)
    return float(best)


def save(model: OwlViTForObjectDetection, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Writes a transformers folder with its processor; weights are stored as float16."""
    folder.mkdir(parents=True, exist_ok=True)
    size = {"height": MODEL_SIZE, "width": MODEL_SIZE}
    images = OwlViTImageProcessor(
        size=size,
        resample=3,
        do_center_crop=False,
        image_mean=list(OPENAI_DATASET_MEAN),
        image_std=list(OPENAI_DATASET_STD),
    )
    tokenizer.model_max_length = QUERY_TOKENS
    save_half(model, folder)
    processor: Any = OwlViTProcessor  # its constructor is untyped
    processor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
