"""The world's CLIP as transformers modules, weight for weight.

Knows both layouts; trains nothing.
"""

from __future__ import annotations

import torch
from open_clip.model import CLIP
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from sightline_world.training.similarity import model_config

_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def clip_config(vocabulary: int) -> CLIPConfig:
    """The transformers configuration of the same architecture."""
    config = model_config(vocabulary)
    vision, text = config["vision_cfg"], config["text_cfg"]
    return CLIPConfig(
        projection_dim=config["embed_dim"],
        vision_config={
            "hidden_size": vision["width"],
            "intermediate_size": 4 * vision["width"],
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["width"] // vision["head_width"],
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "hidden_act": "gelu",
        },
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": text["width"],
            "intermediate_size": 4 * text["width"],
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "max_position_embeddings": text["context_length"],
            "hidden_act": "gelu",
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "pad_token_id": vocabulary - 1,
        },
    )


def to_transformers(model: CLIP) -> CLIPModel:
    """A ``CLIPModel`` with the same weights: cosines agree to float32 rounding."""
    source = model.state_dict()
    target: CLIPModel = CLIPModel(clip_config(len(source["token_embedding.weight"])))
    weights: dict[str, Tensor] = {
        "logit_scale": source["logit_scale"],
        "visual_projection.weight": source["visual.proj"].T,
        "text_projection.weight": source["text_projection"].T,
    }
    weights |= _vision(source) | _text(source)
    loaded = target.load_state_dict(
        {name: value.contiguous() for name, value in weights.items()}, strict=False
    )
    assert not loaded.unexpected_keys, loaded.unexpected_keys
    assert all("position_ids" in name for name in loaded.missing_keys), loaded.missing_keys
    target.train(False)
    return target


def _vision(source: dict[str, Tensor]) -> dict[str, Tensor]:
    to = "vision_model."
    weights = {
        f"{to}embeddings.patch_embedding.weight": source["visual.conv1.weight"],
        f"{to}embeddings.class_embedding": source["visual.class_embedding"],
        f"{to}embeddings.position_embedding.weight": source["visual.positional_embedding"],
    }
    for kind in ("weight", "bias"):
        weights[f"{to}pre_layrnorm.{kind}"] = source[f"visual.ln_pre.{kind}"]
        weights[f"{to}post_layernorm.{kind}"] = source[f"visual.ln_post.{kind}"]
    return weights | _blocks(source, "visual.transformer", to)


def _text(source: dict[str, Tensor]) -> dict[str, Tensor]:
    to = "text_model."
    weights = {
        f"{to}embeddings.token_embedding.weight": source["token_embedding.weight"],
        f"{to}embeddings.position_embedding.weight": source["positional_embedding"],
    }
    for kind in ("weight", "bias"):
        weights[f"{to}final_layer_norm.{kind}"] = source[f"ln_final.{kind}"]
    return weights | _blocks(source, "transformer", to)


def _blocks(source: dict[str, Tensor], prefix: str, to: str) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    count = sum(name.startswith(prefix) and name.endswith("ln_1.weight") for name in source)
    for layer in range(count):
        old, new = f"{prefix}.resblocks.{layer}", f"{to}encoder.layers.{layer}"
        for kind in ("weight", "bias"):
            for theirs, ours in _BLOCK.items():
                weights[f"{new}.{ours}.{kind}"] = source[f"{old}.{theirs}.{kind}"]
            parts = torch.chunk(source[f"{old}.attn.in_proj_{kind}"], 3)
            for letter, part in zip("qkv", parts, strict=True):
                weights[f"{new}.self_attn.{letter}_proj.{kind}"] = part
    return weights
