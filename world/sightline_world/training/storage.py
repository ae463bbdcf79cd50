"""How trained transformers models are stored: float16 tensors, opened as float32.

Knows files only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel


def save_half(model: PreTrainedModel, folder: Path) -> None:
    """Saves float16 weights and a configuration that makes ``from_pretrained`` open float32.

    Half of the size; without the changed configuration a CPU would also compute in float16.
    """
    network: Any = model  # `to` loses its self in the annotations
    network.to(dtype=torch.float16).save_pretrained(folder)
    network.to(dtype=torch.float32)
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    for part in (config, *(v for v in config.values() if isinstance(v, dict))):
        if "dtype" in part:
            part["dtype"] = "float32"
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
