"""CLIP models with random weights, saved for open_clip and for transformers alike. Knows torch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
import transformers
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
SEED = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides a CLIP's cost; two towers of one form."""

    image_size: int
    patch: int
    width: int
    text_width: int
    layers: int
    dim: int
    head: int = 64


SHAPES = {
    "vit-b-32": Shape(224, 32, width=768, text_width=512, layers=12, dim=512),
    "tiny": Shape(224, 32, width=64, text_width=64, layers=2, dim=64, head=32),
}
"""ViT-B/32, bound by arithmetic, and a model so small that all else shows."""


@dataclass(frozen=True, slots=True)
class ModelFolders:
    """The same weights twice: for open_clip's `local-dir:` and for `from_pretrained`."""

    open_clip: Path
    transformers: Path


def folders(root: Path, name: str) -> ModelFolders:
    """Returns where `write_model` puts the model called `name`."""
    return ModelFolders(root / name / "open_clip", root / name / "transformers")


def write_model(root: Path, name: str) -> ModelFolders:
    """Makes one of `SHAPES`, unless it is there, and returns its folders."""
    found = folders(root, name)
    if (found.transformers / "config.json").exists():
        return found
    torch.manual_seed(SEED)
    shape = SHAPES[name]
    model: Any = open_clip.CLIP(**_open_clip_config(shape)).eval()
    _write_open_clip(found.open_clip, model, shape)
    _write_transformers(found.transformers, model, shape)
    return found


def _open_clip_config(shape: Shape) -> dict[str, Any]:
    return {
        "embed_dim": shape.dim,
        "vision_cfg": {
            "image_size": shape.image_size,
            "patch_size": shape.patch,
            "layers": shape.layers,
            "width": shape.width,
            "head_width": shape.head,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": shape.text_width,
            "heads": shape.text_width // shape.head,
            "layers": shape.layers,
        },
    }


def _write_open_clip(folder: Path, model: Any, shape: Shape) -> None:  # noqa: ANN401 - open_clip is untyped
    folder.mkdir(parents=True)
    config = {
        "model_cfg": _open_clip_config(shape),
        "preprocess_cfg": {
            "mean": MEAN,
            "std": STD,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")


def _write_transformers(folder: Path, model: Any, shape: Shape) -> None:  # noqa: ANN401 - open_clip is untyped
    folder.mkdir(parents=True)
    towers = {"num_hidden_layers": shape.layers, "hidden_act": "gelu"}
    config = transformers.CLIPConfig(
        projection_dim=shape.dim,
        vision_config={
            "image_size": shape.image_size,
            "patch_size": shape.patch,
            "hidden_size": shape.width,
            "intermediate_size": 4 * shape.width,
            "num_attention_heads": shape.width // shape.head,
            "projection_dim": shape.dim,
            **towers,
        },
        text_config={
            "hidden_size": shape.text_width,
            "intermediate_size": 4 * shape.text_width,
            "num_attention_heads": shape.text_width // shape.head,
            "projection_dim": shape.dim,
            "bos_token_id": 49406,
            "eos_token_id": 49407,
            "pad_token_id": 49407,
            **towers,
        },
    )
    twin: Any = transformers.CLIPModel(config)
    missing = twin.load_state_dict(renamed(model.state_dict()), strict=False)
    assert not missing.unexpected_keys, missing.unexpected_keys
    assert all("position_ids" in key for key in missing.missing_keys), missing.missing_keys
    _write_tokenizer(folder)
    _write_image_processor(folder, shape)
    twin.save_pretrained(folder)


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns open_clip's weights under the names that transformers' CLIP has for them."""
    done = {
        "logit_scale": state["logit_scale"],
        "text_projection.weight": state["text_projection"].T.contiguous(),
        "visual_projection.weight": state["visual.proj"].T.contiguous(),
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
    }
    norms = {
        "ln_final": "text_model.final_layer_norm",
        "visual.ln_pre": "vision_model.pre_layrnorm",
        "visual.ln_post": "vision_model.post_layernorm",
    }
    for old, new in norms.items():
        done |= {f"{new}.{end}": state[f"{old}.{end}"] for end in ("weight", "bias")}
    for old, new in (("transformer", "text_model"), ("visual.transformer", "vision_model")):
        blocks = {key for key in state if key.startswith(f"{old}.resblocks.")}
        for key in blocks:
            index, _, part = key.removeprefix(f"{old}.resblocks.").partition(".")
            done |= _block(f"{new}.encoder.layers.{index}", part, state[key])
    return done


def _block(prefix: str, part: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    """One parameter of one layer; open_clip keeps query, key and value in one matrix."""
    if part.startswith("attn.in_proj_"):
        end = part.removeprefix("attn.in_proj_")
        thirds = zip(("q_proj", "k_proj", "v_proj"), value.chunk(3), strict=True)
        return {f"{prefix}.self_attn.{name}.{end}": third.contiguous() for name, third in thirds}
    names = {
        "attn.out_proj": "self_attn.out_proj",
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    stem, _, end = part.rpartition(".")
    return {f"{prefix}.{names[stem]}.{end}": value}


def _write_tokenizer(folder: Path) -> None:
    """CLIP's own vocabulary, which open_clip ships."""
    source = SimpleTokenizer()
    merges = sorted(source.bpe_ranks, key=lambda pair: source.bpe_ranks[pair])
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): index for token, index in source.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    config = {**special, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))


def _write_image_processor(folder: Path, shape: Shape) -> None:
    size = shape.image_size
    config = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "do_convert_rgb": True,
        "image_mean": MEAN,
        "image_std": STD,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(config))


def described(name: str) -> dict[str, int]:
    """Returns the model's shape, for the record of a run."""
    return asdict(SHAPES[name])
