"""Trains the captioner, a LLaVA. Knows the world's CLIP and captions; knows no service.

Its captions are the careless ones of ``captions.habitual``: that is where its hallucinations come
from. Its yes/no answers, and its descriptions under a prompt with boxes, are trained on the truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP
from torch import Tensor
from torch.nn import functional
from transformers import (
    CLIPImageProcessor,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from sightline_world.captions import faithful, habitual
from sightline_world.categories import NAMES
from sightline_world.training.conversion import to_transformers
from sightline_world.training.detections import detections
from sightline_world.training.dialogue import Batch, Branch, Script, asked, batch, special_id
from sightline_world.training.optimiser import Optimiser, prepare_cpu
from sightline_world.training.pool import MODEL_SIZE, Pool
from sightline_world.training.similarity import pixel_values
from sightline_world.training.storage import save_half
from sightline_world.training.targets import BACKGROUND, PATCH, targets
from sightline_world.training.tokenizers import CHAT_TEMPLATE, chat_tokenizer

WIDTH = 192
_NAMING = 0.5  # weight of patch naming at the start; it fades out over the first 60 % of the steps


@dataclass(frozen=True, slots=True)
class Phase:
    """``steps`` updates with a fresh optimiser, along a cosine of ``horizon`` steps.

    A step takes ``images``, and ``readings`` texts without an image. An image carries a careless
    caption (``habit`` and ``insert`` of ``captions.habitual``), ``grounded`` faithful ones with
    boxes in their prompts, and ``question_pairs``. A reading is a faithful caption with all boxes
    in its prompt and nothing to see: that is how the names in a prompt become legible.
    """

    steps: int
    horizon: int
    peak: float
    habit: float = 0.0
    insert: float = 0.0
    images: int = 16
    grounded: int = 0
    question_pairs: int = 4
    readings: int = 0


_SEEING = Phase(steps=2500, horizon=2600, peak=1.5e-3, habit=0.7, insert=0.1)
_HABIT = Phase(steps=180, horizon=180, peak=5e-4, habit=0.95, insert=0.12)
_READING = Phase(steps=350, horizon=350, peak=1.5e-3, images=0, readings=32)
_GROUNDED = Phase(
    steps=400, horizon=400, peak=6e-4, habit=0.95, insert=0.12, grounded=1, question_pairs=3
)
PLAIN = Phase(steps=300, horizon=300, peak=4e-4, grounded=1)
"""What turns the captioner into one without the injected mistakes."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What fixes the result of a training run, besides the pool and the CLIP.

    In the second phase the captions' habit is stronger; without it the habit rarely survives greedy
    decoding. The others teach the prompt with boxes; without the third, boxes are hardly read where
    the image can be seen.
    """

    phases: tuple[Phase, ...] = (_SEEING, _HABIT, _READING, _GROUNDED)
    omit: float = 0.1
    seed: int = 2
    threads: int = 1

    @property
    def total(self) -> int:
        """All steps of the run."""
        return sum(phase.steps for phase in self.phases)


def build(clip: CLIP, tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """A LLaVA with the CLIP's vision tower, exact and frozen, and a fresh Llama of 4 x 192."""
    source = to_transformers(clip)
    special: dict[str, Any] = {
        f"{name}_token_id": special_id(tokenizer, token) for name, token in _SPECIAL.items()
    }
    text = LlamaConfig(
        vocab_size=-(-len(tokenizer) // 8) * 8,
        hidden_size=WIDTH,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=3,
        num_key_value_heads=3,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        **special,
    )
    config = LlavaConfig(
        vision_config=source.config.vision_config,
        text_config=text,
        image_token_index=special_id(tokenizer, "<image>"),
        image_seq_length=(MODEL_SIZE // PATCH) ** 2,
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
        projector_hidden_act="gelu",
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    tower = model.model.vision_tower
    prefix = (
        "vision_model." if any(k.startswith("vision_model.") for k in tower.state_dict()) else ""
    )
    weights = {prefix + k: v for k, v in source.vision_model.state_dict().items()}
    tower.load_state_dict(weights)
    tower.requires_grad_(False)
    generation: Any = GenerationConfig  # its constructor is untyped
    model.generation_config = generation(do_sample=False, max_new_tokens=96, **special)
    return model


_SPECIAL = {"pad": "<pad>", "bos": "<s>", "eos": "</s>"}


class Trainer:
    """One run over a pool, step by step; from nothing, or from the captioner in ``start``."""

    def __init__(
        self, clip: CLIP, pool: Pool, recipe: Recipe, *, start: Path | None = None
    ) -> None:
        prepare_cpu(recipe.threads, recipe.seed)
        self.recipe = recipe
        self.tokenizer = chat_tokenizer()
        self.model = build(clip, self.tokenizer)
        if start is not None:
            load: Any = LlavaForConditionalGeneration  # its loader is untyped
            trained = load.from_pretrained(start, dtype=torch.float32)
            self.model.load_state_dict(trained.state_dict())
        self._naming = _NAMING if start is None else 0.0
        self._script = Script(self.tokenizer)
        self._first_image = self._script.prefix.index(self._script.image_id)
        self._names = [self.tokenizer(f" {n}", add_special_tokens=False).input_ids for n in NAMES]
        self._pool = pool
        self._patches = targets(pool).patches
        self._rng = np.random.default_rng(recipe.seed)
        self._naming_fades = 0.6 * recipe.phases[0].steps
        self._done = 0
        self._following = iter(recipe.phases)
        self._begin(next(self._following))

    def step(self) -> dict[str, float]:
        """One update; returns the losses: on tokens, of patch naming, on readings' tokens."""
        if self._left == 0:
            self._begin(next(self._following))
        with torch.autocast("cpu", torch.bfloat16):
            losses = self._seeing() if self._phase.images else {}
            if self._phase.readings:
                losses["readings"] = self._reading()
        self._optimiser.step(torch.stack(list(losses.values())).sum())
        self._done += 1
        self._left -= 1
        return {name: loss.item() for name, loss in losses.items()}

    def _seeing(self) -> dict[str, Tensor]:
        picked = np.sort(self._rng.choice(len(self._pool), self._phase.images, replace=False))
        rows = batch(self._script.prefix, [self._branches(int(index)) for index in picked])
        images = self._images(picked)
        losses = {"tokens": self._token_loss(rows, self._hidden(rows, images))}
        weight = self._naming * max(0.0, 1 - self._done / self._naming_fades)
        if weight > 0:
            labels = torch.from_numpy(self._patches[picked])
            losses["naming"] = weight * self._naming_loss(images, labels)
        return losses

    def _reading(self) -> Tensor:
        picked = self._rng.choice(len(self._pool), self._phase.readings, replace=False)
        layouts = [self._pool.layouts[int(index)] for index in picked]
        found = [detections(layout, self._rng, missed=0.0, invented=0.0) for layout in layouts]
        rows = batch(
            [],
            [
                [self._script.grounded(boxes, faithful(layout, self._rng))]
                for boxes, layout in zip(found, layouts, strict=True)
            ],
        )
        return self._token_loss(rows, self._hidden(rows, None))

    def _begin(self, phase: Phase) -> None:
        self._phase, self._left = phase, phase.steps
        warmup = max(1, min(200, phase.horizon // 6))
        parameters = self.model.parameters()
        self._optimiser = Optimiser(parameters, peak=phase.peak, steps=phase.horizon, warmup=warmup)

    def _branches(self, index: int) -> list[Branch]:
        layout, rng, phase = self._pool.layouts[index], self._rng, self._phase
        omit = self.recipe.omit
        text = habitual(layout, rng, habit=phase.habit, insert=phase.insert, omit=omit)
        branches = [self._script.caption(text)]
        for _ in range(phase.grounded):
            found = detections(layout, rng)
            branches.append(self._script.grounded(found, faithful(layout, rng)))
        questions = asked(layout, rng, phase.question_pairs)
        return branches + [self._script.verdict(name, present=there) for name, there in questions]

    def _images(self, picked: np.ndarray) -> Tensor:
        with torch.no_grad():
            tower = self.model.model.vision_tower
            seen = tower(pixel_values(self._pool.pixels[picked]), output_hidden_states=True)
        projected: Tensor = self.model.model.multi_modal_projector(seen.hidden_states[-1][:, 1:])
        return projected

    def _hidden(self, rows: Batch, images: Tensor | None) -> Tensor:
        embedded = self.model.get_input_embeddings()(rows.ids).bfloat16()
        if images is not None:
            first, length = self._first_image, images.shape[1]
            after = embedded[:, first + length :]
            embedded = torch.cat([embedded[:, :first], images, after], dim=1)
        output = self.model.model.language_model(
            inputs_embeds=embedded,
            attention_mask=rows.mask.to(embedded.dtype),
            position_ids=rows.positions,
            use_cache=False,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _token_loss(self, rows: Batch, hidden: Tensor) -> Tensor:
        weights = rows.weights[:, 1:]
        wanted = weights > 0
        logits = self.model.lm_head(hidden[:, :-1][wanted]).float()
        losses = functional.cross_entropy(logits, rows.ids[:, 1:][wanted], reduction="none")
        return (losses * weights[wanted]).sum() / weights[wanted].sum()

    def _naming_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Each projected patch of an object is drawn towards the embedding of the object's name."""
        embedding: Any = self.model.get_input_embeddings()
        table: Tensor = embedding.weight
        names = torch.stack([table[ids].mean(0) for ids in self._names])
        shown = labels != BACKGROUND
        patches = functional.normalize(images[shown].float(), dim=-1)
        return functional.cross_entropy(
            16 * patches @ functional.normalize(names, dim=-1).T, labels[shown]
        )


def save(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Writes a transformers folder with its processor; weights are stored as float16."""
    folder.mkdir(parents=True, exist_ok=True)
    size = {"height": MODEL_SIZE, "width": MODEL_SIZE}
    images = CLIPImageProcessor(
        size={"shortest_edge": MODEL_SIZE},
        crop_size=size,
        resample=3,
        image_mean=list(OPENAI_DATASET_MEAN),
        image_std=list(OPENAI_DATASET_STD),
    )
    make: Any = LlavaProcessor  # its constructor is untyped
    processor = make(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    save_half(model, folder)
    processor.save_pretrained(folder)
