"""A vision-language model and its processor, or one reason why not. Knows transformers; no LoRA."""

from dataclasses import dataclass
from typing import Any, cast

import torch
import transformers
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from sightline_core.families import Family, family_of

_MEND = "give an image-text-to-text model such as llava-hf/llava-1.5-7b-hf"


@dataclass(frozen=True, slots=True)
class Backbone:
    """What is trained, before it has an adapter.

    Attributes:
        model: the model.
        processor: its image processor and tokeniser in one.
        family: how it differs from others.
    """

    model: Any
    processor: Any
    family: Family


def load_backbone(path: str, *, revision: str | None, dtype: torch.dtype) -> Backbone:
    """The model in a folder or on the hub.

    Raises:
        ValueError: the model is of an architecture that cannot be trained here, or its processor
            lacks a package or a setting.
        OSError: there is no such model.
    """
    config = _load_config(path, revision)
    model: Any = AutoModelForImageTextToText.from_pretrained(
        path, config=config, revision=revision, dtype=dtype
    )
    try:
        processor = cast(Any, AutoProcessor).from_pretrained(path, revision=revision)
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"policy.model {path!r} has a processor that fails: {reason}") from None
    if not getattr(processor, "image_token", None):
        raise ValueError(
            f"policy.model {path!r} has a {type(processor).__name__}, which names no token that "
            f"stands for an image: {_MEND}"
        )
    if getattr(processor, "patch_size", 0) is None:
        raise ValueError(
            f"policy.model {path!r} has a processor without patch_size, which cannot count an "
            "image's tokens: take a newer revision, or add patch_size, "
            "vision_feature_select_strategy and num_additional_image_tokens to its "
            "processor_config.json"
        )
    return Backbone(model, processor, family_of(config.model_type))


def _load_config(path: str, revision: str | None) -> Any:  # noqa: ANN401 - a class per architecture
    kept, _ = cast(Any, transformers.PretrainedConfig).get_config_dict(path, revision=revision)
    model_type = kept.get("model_type")
    if model_type not in transformers.CONFIG_MAPPING:
        raise ValueError(
            f"policy.model {path!r} is of the architecture {model_type!r}, which transformers "
            f"{transformers.__version__} does not have and whose own code is not run: {_MEND}"
        )
    config: Any = AutoConfig.from_pretrained(path, revision=revision)
    if type(config) not in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise ValueError(
            f"policy.model {path!r} is a {model_type} model, which answers no question about an "
            f"image: {_MEND}"
        )
    if config.get_text_config(decoder=True).is_encoder_decoder or config.is_encoder_decoder:
        raise ValueError(
            f"policy.model {path!r} answers with an encoder and a decoder; a policy's prompt and "
            f"answer must be one sequence: {_MEND}"
        )
    return config
