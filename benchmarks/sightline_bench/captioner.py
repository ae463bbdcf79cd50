"""A captioner with random weights, bound by arithmetic. Knows transformers and the world's layout.

The world's own captioner is so small that HTTP and decoding cost as much as half of it.
"""

from pathlib import Path
from typing import Any

import torch
import transformers

from sightline_bench.weights import SEED
from sightline_world import weights

_PIXELS, _PATCH = 224, 32
_VISION = {
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "image_size": _PIXELS,
    "patch_size": _PATCH,
}
_LANGUAGE = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "head_dim": 64,
}


def write_captioner(folder: Path) -> str:
    """Makes a LLaVA of ViT-S/32 and 8 layers of 512, unless it is there.

    It reads as the world's captioner does: prompts, tokens and template are that one's.

    Returns:
        The reference that loads it.
    """
    if not (folder / "processor_config.json").exists():
        torch.manual_seed(SEED)
        source = weights.path("captioner")
        config: Any = transformers.LlavaConfig.from_pretrained(source)
        for part, changes in ((config.vision_config, _VISION), (config.text_config, _LANGUAGE)):
            for name, value in changes.items():
                setattr(part, name, value)
        config.image_seq_length = (_PIXELS // _PATCH) ** 2
        model: Any = transformers.LlavaForConditionalGeneration(config)
        model.save_pretrained(folder)
        _write_processor(source, folder)
    return f"hf:{folder}"


def _write_processor(source: Path, folder: Path) -> None:
    processor: Any = transformers.LlavaProcessor.from_pretrained(source)
    processor.patch_size = _PATCH
    processor.image_processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": _PIXELS}, crop_size={"height": _PIXELS, "width": _PIXELS}
    )
    processor.save_pretrained(folder)
