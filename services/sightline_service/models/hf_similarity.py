"""transformers' CLIP, SigLIP and their like as similarity models. Knows transformers and torch."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch
import transformers
from numpy.typing import NDArray

from sightline_proto import ModelInfo
from sightline_service.models.architectures import of_another_kind
from sightline_service.models.checkpoint import loading, open_checkpoint
from sightline_service.models.placement import Placement, forward_pass
from sightline_service.models.pretrained import (
    image_inputs,
    load_config,
    load_image_processor,
    load_model,
    load_tokenizer,
    model_info,
    processor_definition,
)
from sightline_service.models.protocols import Prepared
from sightline_service.models.reference import ModelReference
from sightline_service.models.tensors import n_weights, right_padded, rows_of, unit
from sightline_service.models.tokenizing import Tokenizer

_OF_IMAGES = ("pixel_values", "pixel_attention_mask", "spatial_shapes")
_CHANNELS = 3
_SEES_PADDING = frozenset({"siglip", "siglip2"})
_TRAINED_TOKENS = {"align": 64}
"""Lengths at which a family was trained, where its positions would allow more."""


class HfSimilarity:
    """Any `AutoModel` with `get_image_features` and `get_text_features`.

    Args:
        model: the model, on its device.
        image_processor: its own image preprocessing.
        tokenizer: its own tokeniser.
        placement: device and arithmetic.
        info: its identity in replies.
    """

    scale = "cos100"

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - a class per architecture
        image_processor: Any,  # noqa: ANN401 - a class per architecture
        tokenizer: Tokenizer,
        *,
        placement: Placement,
        info: ModelInfo,
    ) -> None:
        self.info = info
        self.n_weights = n_weights(model)
        self._model = model
        self._image_processor = image_processor
        self._tokenizer = tokenizer
        self._placement = placement
        # A model that was trained on padded texts (SigLIP) also saw the padding.
        self._masked = "attention_mask" in tokenizer.inner.model_input_names and not tokenizer.pad

    def prepare_image(self, image: PIL.Image.Image) -> Prepared:
        """Preprocesses an RGB image to [3, h, w], or to patches [n, d] with a mask (naflex)."""
        inputs = image_inputs(self._image_processor, image)
        rows = {name: inputs[name][0] for name in _OF_IMAGES if name in inputs}
        pixels = rows["pixel_values"]
        cost = max(pixels.numel() // _CHANNELS, 1)
        return Prepared(data=rows, cost=cost, group=tuple(pixels.shape))

    def prepare_text(self, text: str) -> Prepared:
        """Tokenises, cuts at the context length, and keeps the end token."""
        tokens = self._tokenizer.encode(text)
        return Prepared(data=tokens.ids, cost=max(len(tokens.ids), 1), truncated=tokens.truncated)

    def embed_images(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """Returns unit vectors, shape [n, d]."""
        with forward_pass():
            rows: list[dict[str, torch.Tensor]] = [prepared.data for prepared in batch]
            inputs = {
                name: torch.stack([row[name] for row in rows]).to(self._placement.device)
                for name in rows[0]
            }
            inputs["pixel_values"] = inputs["pixel_values"].to(self._placement.dtype)
            return rows_of(unit(_pooled(self._model.get_image_features(**inputs))))

    def embed_texts(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """Returns unit vectors, shape [n, d]."""
        with forward_pass():
            ids, mask = right_padded([prepared.data for prepared in batch], self._tokenizer.pad_id)
            inputs = {"input_ids": ids.to(self._placement.device)}
            if self._masked:
                inputs["attention_mask"] = mask.to(self._placement.device)
            return rows_of(unit(_pooled(self._model.get_text_features(**inputs))))


def load_hf_similarity(reference: ModelReference, placement: Placement) -> HfSimilarity:
    """Loads a similarity model from a folder or the hub.

    Raises:
        ModelLoadError: naming the file and the mend.
    """
    checkpoint = open_checkpoint(reference)
    with loading(reference, checkpoint):
        config = load_config(checkpoint)
        text_config = getattr(config, "text_config", None)
        if text_config is None or not _embeds_both(config):
            raise of_another_kind(checkpoint, "similarity", config.model_type)
        tokenizer = Tokenizer(
            load_tokenizer(checkpoint),
            max_tokens=min(
                int(text_config.max_position_embeddings),
                _TRAINED_TOKENS.get(config.model_type, sys.maxsize),
            ),
            pad=config.model_type in _SEES_PADDING,
        )
        image_processor = load_image_processor(checkpoint)
        model = load_model(transformers.AutoModel, checkpoint, placement)
        info = model_info(
            reference,
            checkpoint,
            placement,
            image=processor_definition(image_processor),
            text=tokenizer.definition(),
        )
        return HfSimilarity(model, image_processor, tokenizer, placement=placement, info=info)


def _embeds_both(config: Any) -> bool:  # noqa: ANN401 - a class per architecture
    model_class = transformers.MODEL_MAPPING.get(type(config), None)
    features = ("get_image_features", "get_text_features")
    return all(hasattr(model_class, feature) for feature in features)


def _pooled(features: Any) -> torch.Tensor:  # noqa: ANN401 - a tensor, or an output that holds it
    return features if isinstance(features, torch.Tensor) else features.pooler_output
