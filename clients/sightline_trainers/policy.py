"""The model that is trained: loading, LoRA, reference, export. Knows transformers; no reward.

Shapes: B sequences, T completion tokens, V words. The prompt is padded on the left, the completion
on the right, so that the two meet; sampled ids are used as they are and never tokenised again.
"""
# ruff: noqa: N803, N806 - a tensor's name ends in its shape

import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from sightline_trainers.backbone import load_backbone
from sightline_trainers.logprobs import mask_after_end
from sightline_trainers.prompts import Prompt, PromptFormat, collate, continued
from sightline_world import weights

WORLD = "world"
SHIPPED: dict[str, weights.Model] = {WORLD: "captioner", "world:plain": "plain"}
"""Policies that ship; the plain one was trained without injected hallucinations."""
LANGUAGE_MODEL_LINEARS = r".*language_model.*\.((q|k|v|o|out|gate|up|down)_proj|fc1|fc2)"
"""All linear maps of the language model; the vision tower, the projector and the head stay."""


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Which model is trained, and how much of it.

    Raises:
        ValueError: a number is out of range.
    """

    model: str = WORLD
    """A folder or hub name of any image-text-to-text model, or one of `SHIPPED`."""
    revision: str | None = None
    """A commit of the hub."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """The frozen weights' type; the adapter is always float32."""
    chat_template: Path | None = None
    """A file with a chat template that replaces the model's own."""
    lora_rank: int = 128
    lora_alpha: int = 256
    lora_targets: str = LANGUAGE_MODEL_LINEARS
    """A regular expression over whole module names, in which language_model is what any family
    calls its language model."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""

    def __post_init__(self) -> None:
        """Refuses what cannot be trained."""
        if self.lora_rank < 1 or self.lora_alpha < 1:
            raise ValueError(
                f"policy.lora_rank is {self.lora_rank} and lora_alpha {self.lora_alpha}: "
                "give 1 or more"
            )
        try:
            re.compile(self.lora_targets)
        except re.error as error:
            raise ValueError(f"policy.lora_targets {self.lora_targets!r}: {error}") from None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn: length in tokens, temperature (0: greedy), nucleus mass."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0


class Policy(nn.Module):
    """A model with an adapter; with the adapter off it is its own reference.

    Args:
        model: the model with its LoRA adapter.
        prompts: its prompt format.
        value_head: whether to predict a value per token too (for GAE).
    """

    def __init__(
        self, model: PeftModel, prompts: PromptFormat, *, value_head: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        self.prompts = prompts
        head: nn.Linear = cast(Any, model).get_output_embeddings()
        self._hidden: list[Tensor] = []
        self.value_head = nn.Linear(head.in_features, 1) if value_head else None
        if self.value_head is not None:
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)
            head.register_forward_pre_hook(self._keep_hidden)

    def forward(
        self, inputs: Mapping[str, Tensor], ids_BT: Tensor, mask_BT: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The logits (B, T, V) that predict each completion token, and the values (B, T).

        Position ids are given explicitly (a count of the tokens so far), because some processors
        put image tokens before the padding; models with multi-axis positions count for themselves.
        """
        family = self.prompts.family
        whole = continued(inputs, ids_BT, mask_BT, answer_type=family.answer_type)
        if not self._counts_positions():
            counted = (whole["attention_mask"].cumsum(1) - 1).clamp(min=0)
            whole["position_ids"] = counted + family.first_position
        length = ids_BT.shape[1]
        self._hidden.clear()
        output = self.model(**whole, logits_to_keep=length + 1, use_cache=False)
        logits_BTV: Tensor = output.logits[:, -(length + 1) : -1]
        if self.value_head is None:
            return logits_BTV, None
        hidden = self._hidden.pop()[:, -(length + 1) : -1]
        return logits_BTV, self.value_head(hidden.to(self.value_head.weight.dtype))[..., 0]

    def reference(self) -> AbstractContextManager[None]:
        """The model as it was before training, inside the block."""
        return cast(AbstractContextManager[None], self.model.disable_adapter())

    @torch.no_grad()
    def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Completions: ids and mask, both (B, T); after the end token the ids are padding.

        Each row draws its own noise from its seed, so that what is sampled depends neither on the
        other rows of the batch nor on the number of processes.
        """
        device = next(self.model.parameters()).device
        inputs = collate(prompts, self.prompts.pad_id, device)
        warpers = LogitsProcessorList()
        if sampling.temperature > 0:
            if sampling.temperature != 1.0:
                warpers.append(TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_p < 1.0:
                warpers.append(TopPLogitsWarper(sampling.top_p))
            warpers.append(RowNoise(seeds, device))
        whole = cast(Any, self.model).generate(
            **inputs, generation_config=self._generation(sampling), logits_processor=warpers
        )
        ids_BT: Tensor = whole[:, inputs["input_ids"].shape[1] :]
        mask_BT = mask_after_end(ids_BT, self.end_ids)
        return ids_BT.masked_fill(mask_BT == 0, self.prompts.pad_id), mask_BT

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that end a completion."""
        given = cast(Any, self.model).generation_config.eos_token_id
        ends = given if isinstance(given, list) else [given, self.prompts.tokenizer.eos_token_id]
        return tuple(dict.fromkeys(int(each) for each in ends if each is not None))

    @property
    def never_sampled(self) -> tuple[int, ...]:
        """The tokens that stand for images: an answer that holds one could not be scored."""
        config: Any = self.model.config
        ids = self.prompts.placeholder_ids | {getattr(config, "image_token_id", None)}
        return tuple(sorted(each for each in ids if each is not None))

    def train(self, mode: bool = True) -> "Policy":
        """Lets activations be recomputed if that is wanted; dropout stays off.

        Sampling and learning must see one network, or the ratio of their probabilities is noise.
        """
        super().train(False)
        self.training = mode
        for module in self.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.training = mode
        return self

    def _generation(self, sampling: Sampling) -> Any:  # noqa: ANN401 - untyped in transformers
        return cast(Any, GenerationConfig)(
            do_sample=False,  # RowNoise draws: the largest noisy logit is an exact sample
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=list(self.end_ids),
            pad_token_id=self.prompts.pad_id,
            suppress_tokens=list(self.never_sampled),
        )

    def _counts_positions(self) -> bool:
        inner: Any = self.model.get_base_model()
        return hasattr(getattr(inner, "model", inner), "get_rope_index")

    def _keep_hidden(self, head: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        del head
        self._hidden.append(arguments[0])


class RowNoise(LogitsProcessor):
    """Adds Gumbel noise to the logits: their maximum is then a sample from their softmax.

    Each row has a generator of its own.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The noisy scores, (B, V)."""
        del input_ids
        rows = [
            torch.empty_like(row, dtype=torch.float32).exponential_(generator=generator)
            for row, generator in zip(scores, self._generators, strict=True)
        ]
        return scores.float() - torch.stack(rows).log()


def load_policy(config: PolicyConfig, *, seed: int, value_head: bool = False) -> Policy:
    """The model with a fresh adapter, whose random half follows from the seed.

    Raises:
        ValueError: the model cannot be trained here, or the targets match nothing, or something
            outside the language model.
        OSError: there is no such model.
    """
    shipped = SHIPPED.get(config.model)
    path = config.model if shipped is None else str(weights.path(shipped))
    dtype = cast(torch.dtype, getattr(torch, config.dtype))
    backbone = load_backbone(path, revision=config.revision, dtype=dtype)
    model, family = backbone.model, backbone.family
    targets = config.lora_targets.replace("language_model", family.language_model)
    _check_targets(model, targets, family.language_model)
    template = config.chat_template.read_text(encoding="utf-8") if config.chat_template else None
    torch.manual_seed(seed)  # LoRA's A is drawn here
    adapter = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=0.0,  # old and new log-probabilities must come from one network
        bias="none",
        target_modules=targets,
    )
    with warnings.catch_warnings():
        # transformers 5.23 has renamed what older ones and peft know as gradient checkpointing
        warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing", FutureWarning)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable()
            model.enable_input_require_grads()
        adapted = cast(PeftModel, get_peft_model(model, adapter))
    prompts = PromptFormat(backbone.processor, template=template, family=family)
    return Policy(adapted, prompts, value_head=value_head)


def export_adapter(policy: Policy, folder: Path) -> None:
    """Writes the adapter as peft reads it, with the processor."""
    policy.model.save_pretrained(str(folder))
    policy.prompts.processor.save_pretrained(str(folder))


def export_merged(policy: Policy, folder: Path) -> None:
    """Writes the model with its adapter merged in, as plain transformers reads it.

    The policy keeps the merged weights and has no adapter any more.
    """
    merged: Any = policy.model.merge_and_unload()
    merged.save_pretrained(str(folder))
    policy.prompts.processor.save_pretrained(str(folder))


def _check_targets(model: nn.Module, pattern: str, language_model: str) -> None:
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and re.fullmatch(pattern, name)
    ]
    if not names:
        raise ValueError(f"policy.lora_targets {pattern!r} matches no linear map of the model")
    outside = [name for name in names if language_model not in name.split(".")]
    if outside:
        raise ValueError(
            f"policy.lora_targets {pattern!r} matches {outside[0]}, outside the language model: "
            "leave the vision tower and the projector alone"
        )
