"""Trains the CLIP that judges whether a text is true of a scene. Knows scenes; no service.

Three losses, all of them on what the verifier is asked at serving time:
nouns (is this object there? with scene-likely absent objects as half of the negatives),
captions (is all of this true? with one swapped object as a negative of every caption), and
patches (which object does this patch show? from the scene's own boxes, at the last two layers).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTokenizer

from sightline_world.captions import mentioned, short, swap
from sightline_world.categories import CATEGORIES
from sightline_world.scenes import Layout
from sightline_world.training.optimiser import Optimiser, prepare_cpu
from sightline_world.training.pool import MODEL_SIZE, Pool
from sightline_world.training.targets import BACKGROUND, PATCH, Targets, targets
from sightline_world.training.tokenizers import clip_tokenizer

CONTEXT = 64
WIDTH = 128
_TEMPLATES = ("{a}", "a photo of {a}", "A photo of {a}.", "There is {a}.", "{plural}")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What fixes the result of a training run, besides the pool.

    The learning rate follows a cosine of ``horizon`` steps that is left after ``steps``; then the
    optimiser starts anew from ``restart_peak`` and decays to zero over ``restart_steps``.
    """

    steps: int = 3000
    horizon: int = 7000
    peak: float = 1.5e-3
    restart_steps: int = 1000
    restart_peak: float = 1.1e-3
    batch: int = 48
    captions: int = 24  # images per batch that also bring a caption and its swap
    caption_weight: float = 0.6
    patch_weight: float = 1.0
    seed: int = 0
    threads: int = 2

    @property
    def total(self) -> int:
        """All steps of the run."""
        return self.steps + self.restart_steps


def model_config(vocabulary: int) -> dict[str, Any]:
    """open_clip's ``model_cfg`` for the world's CLIP: ViT 4 x 128, 96 px in 12 px patches."""
    return {
        "embed_dim": WIDTH,
        "quick_gelu": False,
        "vision_cfg": {
            "image_size": MODEL_SIZE,
            "patch_size": PATCH,
            "width": WIDTH,
            "layers": 4,
            "head_width": 64,
        },
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": vocabulary,
            "hf_tokenizer_name": "sightline-world",
            "width": WIDTH,
            "heads": 2,
            "layers": 2,
        },
    }


def build(vocabulary: int) -> CLIP:
    """A freshly initialised CLIP of that configuration."""
    config = model_config(vocabulary)
    text: Any = dict(config["text_cfg"])  # annotated as a dataclass, taken as a dict too
    return CLIP(WIDTH, config["vision_cfg"], text, quick_gelu=False)


def pixel_values(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 (B, H, W, 3) to normalised float32 (B, 3, H, W), as every preprocessor here does it."""
    mean, std = (torch.tensor(v) for v in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    values = torch.from_numpy(pixels).float()  # channels last: the fast order for the convolution
    return values.mul_(1 / (255 * std)).sub_(mean / std).permute(0, 3, 1, 2)


def token_ids(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Token ids (B, longest), at most 64 long, filled up with the end token."""
    encoded = tokenizer(
        list(texts), padding=True, truncation=True, max_length=CONTEXT, return_tensors="pt"
    )
    return torch.as_tensor(encoded["input_ids"])


def encode_text(model: CLIP, ids: Tensor) -> Tensor:
    """``CLIP.encode_text``, normalised, without its fixed length: attention is causal."""
    text: Any = model  # its modules are annotated as tensors or modules
    length = ids.shape[1]
    hidden = text.token_embedding(ids) + text.positional_embedding[:length]
    hidden = text.ln_final(text.transformer(hidden, attn_mask=text.attn_mask[:length, :length]))
    pooled = hidden[torch.arange(len(ids)), ids.argmax(-1)]
    return functional.normalize((pooled @ text.text_projection).float(), dim=-1)


def encode_image(model: CLIP, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Unit embeddings of images (B, 128) and, at the last two layers, patches (B, 64, 128)."""
    vision: Any = model.visual
    hidden = vision._embeds(pixels)
    levels: list[Tensor] = []
    for block in vision.transformer.resblocks:
        hidden = block(hidden)
        levels.append(hidden)
    projected = [vision.ln_post(level) @ vision.proj for level in levels[-2:]]
    pooled = functional.normalize(projected[-1][:, 0].float(), dim=-1)
    return pooled, [functional.normalize(level[:, 1:].float(), dim=-1) for level in projected]


class Scales(nn.Module):
    """Learned temperatures and offsets of the three losses; thrown away after training."""

    def __init__(self) -> None:
        super().__init__()
        self.noun = nn.Parameter(torch.tensor([2.3, -4.0]))
        self.caption = nn.Parameter(torch.tensor([2.3, -4.0]))
        self.contrast = nn.Parameter(torch.tensor(2.3))
        self.patch = nn.Parameter(torch.tensor([2.3, 0.0]))


def scaled(cosines: Tensor, scale: Tensor) -> Tensor:
    """exp(scale[0]) * cosine + scale[1], the temperature held at 100 or less."""
    return scale[0].clamp(max=4.6).exp() * cosines + scale[1]


def noun_loss(logits: Tensor, present: Tensor, likely: Tensor) -> Tensor:
    """BCE over 67 nouns; negatives count four times, half of that on scene-likely absent ones."""
    positives = (functional.softplus(-logits) * present).sum() / present.sum()
    missing = 1 - present
    share = 0.5 * missing / missing.sum(1, keepdim=True) + 0.5 * likely
    return positives + 4 * (functional.softplus(logits) * share).sum(1).mean()


def patch_loss(levels: Sequence[Tensor], nouns: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """Cross entropy of every patch over 67 nouns and a learned background logit."""
    total = torch.zeros(())
    for level in levels:
        logits = scale[0].clamp(max=4.6).exp() * level @ nouns.T
        background = scale[1].expand(*logits.shape[:2], 1)
        logits = torch.cat([logits, background], dim=-1)
        weight = torch.ones(BACKGROUND + 1)
        weight[BACKGROUND] = 0.3
        total = total + functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), weight=weight
        )
    return total / len(levels)


def caption_loss(images: Tensor, texts: Tensor, true: Tensor, scales: Scales) -> Tensor:
    """Captions (first half of ``texts``) and their swaps (second half) against their images.

    ``true`` (B, 2B) says which text holds for which image by the objects alone. BCE makes scores
    comparable across images; the contrastive term ranks each caption above its swap and the rest.
    """
    cosines = images @ texts.T
    size = len(images)
    logits = scaled(cosines, scales.caption)
    own_swap = torch.cat([torch.zeros(size, size), torch.eye(size)], dim=1) * (1 - true)
    other = (1 - true) * (1 - own_swap)
    bce = (functional.softplus(-logits) * true).sum() / true.sum()
    for negatives in (own_swap, other):
        bce = bce + (functional.softplus(logits) * negatives).sum() / negatives.sum().clamp(min=1)
    eye = torch.eye(size)
    also_true = true - torch.cat([eye, torch.zeros(size, size)], dim=1)
    ranked = scales.contrast.clamp(max=4.6).exp() * cosines
    ranked = ranked.masked_fill(also_true > 0, -1e4)
    rank = torch.arange(size)
    contrast = functional.cross_entropy(ranked, rank) + functional.cross_entropy(
        ranked[:, :size].T, rank
    )
    return bce + 0.5 * contrast


def caption_pairs(
    layouts: Sequence[Layout], rng: np.random.Generator
) -> tuple[list[str], list[str]]:
    """A caption and its swap per scene: whole descriptions, parts of them, and plain lists."""
    right: list[str] = []
    wrong: list[str] = []
    for layout in layouts:
        keep = None if rng.random() < 0.5 else int(rng.integers(1, len(layout.names) + 1))
        pair = swap(layout, rng, keep=keep)
        texts = (pair.faithful, pair.hallucinated)
        form = rng.random()
        if form < 0.2:  # plain lists
            state = int(rng.integers(2**32))
            one, other = (short(mentioned(t), np.random.default_rng(state)) for t in texts)
            texts = (one, other)
        elif form < 0.45:  # the sentence that differs
            texts = _differing_sentence(*texts)
        right.append(texts[0])
        wrong.append(texts[1])
    return right, wrong


def _differing_sentence(first: str, second: str) -> tuple[str, str]:
    pairs = zip(first.split(". "), second.split(". "), strict=True)
    one, other = next((a, b) for a, b in pairs if a != b)
    return f"{one.rstrip('.')}.", f"{other.rstrip('.')}."


def holds(texts: Sequence[str], layouts: Sequence[Layout]) -> Tensor:
    """1 where every object that a text names is in the scene, (scenes, texts)."""
    there = [set(layout.names) for layout in layouts]
    said = [set(mentioned(text)) for text in texts]
    return torch.tensor([[float(named <= present) for named in said] for present in there])


def noun_texts(rng: np.random.Generator) -> list[str]:
    """Each category once: half of the time the bare noun, else a template or the plural."""
    texts: list[str] = []
    for one in CATEGORIES:
        form = "{name}" if rng.random() < 0.5 else _TEMPLATES[int(rng.integers(len(_TEMPLATES)))]
        texts.append(form.format(name=one.name, a=one.noun_phrase, plural=one.plural))
    return texts


class Trainer:
    """One run over a pool, step by step."""

    def __init__(self, pool: Pool, recipe: Recipe) -> None:
        prepare_cpu(recipe.threads, recipe.seed)
        self.recipe = recipe
        self.tokenizer = clip_tokenizer()
        self.model = build(len(self.tokenizer))
        self.scales = Scales()
        self._pool = pool
        self._targets: Targets = targets(pool)
        self._rng = np.random.default_rng(recipe.seed)
        self._done = 0
        self._optimiser = self._optimise(recipe.peak, recipe.horizon)

    def _optimise(self, peak: float, steps: int) -> Optimiser:
        parameters = [*self.model.parameters(), *self.scales.parameters()]
        return Optimiser(parameters, peak=peak, steps=steps)

    def step(self) -> dict[str, float]:
        """One update; returns the three losses."""
        if self._done == self.recipe.steps:
            self._optimiser = self._optimise(self.recipe.restart_peak, self.recipe.restart_steps)
        self._done += 1
        picked = np.sort(self._rng.choice(len(self._pool), self.recipe.batch, replace=False))
        with torch.autocast("cpu", torch.bfloat16):
            images, levels = encode_image(self.model, pixel_values(self._pool.pixels[picked]))
            nouns = encode_text(self.model, token_ids(self.tokenizer, noun_texts(self._rng)))
        captions = self._caption_loss(images, picked)
        present, likely, patches = (
            torch.from_numpy(values[picked])
            for values in (self._targets.present, self._targets.likely, self._targets.patches)
        )
        noun = noun_loss(scaled(images @ nouns.T, self.scales.noun), present, likely)
        patch = patch_loss(levels, nouns, patches, self.scales.patch)
        recipe = self.recipe
        loss = noun + recipe.caption_weight * captions + recipe.patch_weight * patch
        self._optimiser.step(loss)
        return {"noun": noun.item(), "caption": captions.item(), "patch": patch.item()}

    def _caption_loss(self, images: Tensor, picked: npt.NDArray[np.int64]) -> Tensor:
        some = self._rng.choice(len(picked), self.recipe.captions, replace=False)
        layouts = [self._pool.layouts[i] for i in picked[some]]
        right, wrong = caption_pairs(layouts, self._rng)
        texts = right + wrong
        with torch.autocast("cpu", torch.bfloat16):
            encoded = encode_text(self.model, token_ids(self.tokenizer, texts))
        return caption_loss(
            images[torch.from_numpy(some)], encoded, holds(texts, layouts), self.scales
        )


def save(model: CLIP, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Writes an open_clip ``local-dir:`` folder; weights are stored as float16."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {
        "mean": list(OPENAI_DATASET_MEAN),
        "std": list(OPENAI_DATASET_STD),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    config = {"model_cfg": model_config(len(tokenizer)), "preprocess_cfg": preprocess}
    text = json.dumps(config, indent=2) + "\n"
    (folder / "open_clip_config.json").write_text(text, encoding="utf-8")
    halves = {k: v.detach().half().contiguous() for k, v in model.state_dict().items()}
    save_file(halves, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)
