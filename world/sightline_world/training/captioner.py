"""Trains the captioner, a LLaVA. Knows the world's CLIP and captions; knows no service.

Its captions are the careless ones of ``captions.habitual``: that is where its hallucinations come
from. Its yes/no answers are trained on the truth.
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

from sightline_world.captions import habitual
from sightline_world.categories import NAMES
from sightline_world.training.conversion import to_transformers
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
class Recipe:
    """What fixes the result of a training run, besides the pool and the CLIP.

    The learning rate follows a cosine of ``horizon`` steps that is left after ``steps``; then the
    optimiser starts anew for ``restart_steps``, in which the captions' habit is stronger. Without
    that second phase the habit rarely survives greedy decoding.
    """

    steps: int = 2500
    horizon: int = 2600
    peak: float = 1.5e-3
    habit: float = 0.7
    insert: float = 0.1
    restart_steps: int = 180
    restart_peak: float = 5e-4
    restart_habit: float = 0.95
    restart_insert: float = 0.12
    omit: float = 0.1
    batch: int = 16
    question_pairs: int = 4
    seed: int = 2
    threads: int = 1

    @property
    def total(self) -> int:
        """All steps of the run."""
        return self.steps + self.restart_steps


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
    """One run over a pool, step by step."""

    def __init__(self, clip: CLIP, pool: Pool, recipe: Recipe) -> None:
        prepare_cpu(recipe.threads, recipe.seed)
        self.recipe = recipe
        self.tokenizer = chat_tokenizer()
        self.model = build(clip, self.tokenizer)
        self._script = Script(self.tokenizer)
        self._first_image = self._script.prefix.index(self._script.image_id)
        self._names = [self.tokenizer(f" {n}", add_special_tokens=False).input_ids for n in NAMES]
        self._pool = pool
        self._patches = targets(pool).patches
        self._rng = np.random.default_rng(recipe.seed)
        self._done = 0
        self._habit, self._insert = recipe.habit, recipe.insert
        self._optimiser = self._optimise(recipe.peak, recipe.horizon)

    def step(self) -> dict[str, float]:
        """One update; returns the loss on tokens and that of patch naming."""
        if self._done == self.recipe.steps:
            self._restart()
        picked = np.sort(self._rng.choice(len(self._pool), self.recipe.batch, replace=False))
        rows = batch(self._script.prefix, [self._branches(int(index)) for index in picked])
        with torch.autocast("cpu", torch.bfloat16):
            images = self._images(picked)
            hidden = self._hidden(rows, images)
            tokens = self._token_loss(rows, hidden)
            naming = self._naming_loss(images, torch.from_numpy(self._patches[picked]))
        fade = max(0.0, 1 - self._done / (0.6 * self.recipe.steps))
        self._optimiser.step(tokens + _NAMING * fade * naming)
        self._done += 1
        return {"tokens": tokens.item(), "naming": naming.item()}

    def _optimise(self, peak: float, steps: int) -> Optimiser:
        warmup = max(1, min(200, steps // 6))
        return Optimiser(self.model.parameters(), peak=peak, steps=steps, warmup=warmup)

    def _restart(self) -> None:
        recipe = self.recipe
        self._habit, self._insert = recipe.restart_habit, recipe.restart_insert
        self._optimiser = self._optimise(recipe.restart_peak, recipe.restart_steps)

    def _branches(self, index: int) -> list[Branch]:
        layout, rng, recipe = self._pool.layouts[index], self._rng, self.recipe
        text = habitual(layout, rng, habit=self._habit, insert=self._insert, omit=recipe.omit)
        questions = asked(layout, rng, recipe.question_pairs)
        verdicts = [self._script.verdict(name, present=there) for name, there in questions]
        return [self._script.caption(text), *verdicts]

    def _images(self, picked: np.ndarray) -> Tensor:
        with torch.no_grad():
            tower = self.model.model.vision_tower
            seen = tower(pixel_values(self._pool.pixels[picked]), output_hidden_states=True)
        projected: Tensor = self.model.model.multi_modal_projector(seen.hidden_states[-1][:, 1:])
        return projected

    def _hidden(self, rows: Batch, images: Tensor) -> Tensor:
        embedded = self.model.get_input_embeddings()(rows.ids).to(images.dtype)
        first, length = self._first_image, images.shape[1]
        embedded = torch.cat([embedded[:, :first], images, embedded[:, first + length :]], dim=1)
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
