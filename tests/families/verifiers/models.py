"""Tiny random verifiers, saved by the libraries' own classes as their repositories are."""

import importlib.util
from pathlib import Path

import open_clip
import torch
import transformers
from safetensors.torch import save_file

_AT = Path(__file__).parents[2] / "service" / "models" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("service_models", _AT)
TINY = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(TINY)

OPENAI = {"mean": [0.4815, 0.4578, 0.4082], "std": [0.2686, 0.2613, 0.2758]}
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
TOWER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def open_clip_vit(folder, *, size=224, quick_gelu=False):
    """Three layers, so that the two kinds of GELU give clearly different vectors."""
    vision = {"image_size": size, "layers": 3, "width": 32, "head_width": 16}
    config = {
        "embed_dim": 24,
        "quick_gelu": quick_gelu,
        "vision_cfg": {**vision, "patch_size": size // 4},
        "text_cfg": {**TINY.OPEN_CLIP_CONFIG["text_cfg"], "context_length": 77, "layers": 3},
    }
    TINY.save_open_clip(folder, config, OPENAI)


def open_clip_siglip(folder):
    """timm's image tower with attention pooling; a SentencePiece-like tokeniser with padding."""
    tokenizer = siglip_tokenizer(length=16)
    tokenizer.save_pretrained(folder)
    config = {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "vision_cfg": {
            "image_size": 64,
            "timm_model_name": "test_vit",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": len(tokenizer),
            "hf_tokenizer_name": "local",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "width": 64,
            "heads": 2,
            "layers": 2,
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
        },
    }
    TINY.save_open_clip(folder, config, HALF, custom_text=True)


def open_clip_coca(folder):
    text = {"context_length": 76, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    config = {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 64,
            "layers": 2,
            "width": 32,
            "head_width": 16,
            "patch_size": 16,
            "attentional_pool": True,
            "attn_pooler_heads": 2,
            "output_tokens": True,
        },
        "text_cfg": {**text, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**text, "attn_pooler_heads": 2},
    }
    torch.manual_seed(3)
    written = {"model_cfg": {**config, "custom_text": True}, "preprocess_cfg": OPENAI}
    (folder / "open_clip_config.json").write_text(TINY.json.dumps(written))
    save_file(open_clip.CoCa(**config).state_dict(), folder / "open_clip_model.safetensors")


def siglip_tokenizer(*, length):
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=TINY.bpe(500, special=["<pad>", "</s>"], template="$A </s>"),
        pad_token="<pad>",
        eos_token="</s>",
        model_input_names=["input_ids"],
        model_max_length=length,
    )


def hf_clip(folder):
    torch.manual_seed(1)
    tokenizer = TINY.clip_tokenizer()
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos")}
    text = {**TOWER, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    config = transformers.CLIPConfig(
        text_config=text,
        vision_config={**TOWER, "image_size": 336, "patch_size": 84},
        projection_dim=24,
    )
    transformers.CLIPModel(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"shortest_edge": 336}
    transformers.CLIPImageProcessor(
        size=size, crop_size={"height": 336, "width": 336}
    ).save_pretrained(folder)


def hf_siglip(folder):
    TINY.save_siglip(folder, siglip_tokenizer(length=12))


def gemma_tokenizer(*, length):
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    learned = TINY.json.loads(TINY.bpe(600, special=special, metaspace=True).to_str())["model"]
    return transformers.Siglip2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(pair) for pair in learned["merges"]],
        add_bos_token=False,
        add_eos_token=True,
        padding_side="right",
        model_max_length=length,
    )


def hf_siglip2_naflex(folder):
    torch.manual_seed(2)
    tokenizer = gemma_tokenizer(length=12)
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 12}
    config = transformers.Siglip2Config(
        text_config={**TOWER, **text, "bos_token_id": 1, "eos_token_id": 1, "projection_size": 32},
        vision_config={**TOWER, "num_patches": 16, "patch_size": 8},
    )
    transformers.Siglip2Model(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=20).save_pretrained(folder)


def hf_align(folder):
    torch.manual_seed(4)
    tokenizer = TINY.bert_tokenizer()
    config = transformers.AlignConfig(
        text_config={**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 96},
        vision_config={
            "image_size": 64,
            "kernel_sizes": [3, 3],
            "in_channels": [32, 8],
            "out_channels": [8, 32],
            "strides": [1, 2],
            "num_block_repeats": [1, 1],
            "expand_ratios": [1, 2],
            "width_coefficient": 1.0,
            "depth_coefficient": 1.0,
            "depthwise_padding": [],
            "hidden_dim": 32,
        },
        projection_dim=32,
    )
    transformers.AlignModel(config).eval().save_pretrained(folder)
    image = transformers.EfficientNetImageProcessor(
        size={"height": 72, "width": 72}, crop_size={"height": 64, "width": 64}
    )
    transformers.AlignProcessor(image, tokenizer).save_pretrained(folder)


BUILDERS = {
    "open_clip ViT, OpenAI (quick-GELU, 224)": lambda folder: open_clip_vit(
        folder, quick_gelu=True
    ),
    "open_clip ViT, OpenAI (quick-GELU, 336)": lambda folder: open_clip_vit(
        folder, size=336, quick_gelu=True
    ),
    "open_clip ViT, LAION (GELU, 224)": open_clip_vit,
    "open_clip SigLIP (sigmoid)": open_clip_siglip,
    "open_clip CoCa": open_clip_coca,
    "transformers CLIP (336)": hf_clip,
    "transformers SigLIP, SigLIP 2 (fixed size)": hf_siglip,
    "transformers SigLIP 2 (naflex)": hf_siglip2_naflex,
    "transformers ALIGN": hf_align,
}
"""The verifiers of `sightline_service.models.families`, by name."""
