"""Where the shipped models lie. Knows file names only: imports neither torch nor a model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

Model = Literal["similarity", "detector", "captioner", "plain"]
MODELS: tuple[Model, ...] = get_args(Model)
PROFILE = "profile.json"

_FOLDER = Path(__file__).parent / "weights"
_MARKER: dict[Model, str] = {
    "similarity": "open_clip_model.safetensors",
    "detector": "model.safetensors",
    "captioner": "model.safetensors",
    "plain": "model.safetensors",
}


def path(model: Model) -> Path:
    """The folder of a shipped model.

    ``similarity`` is an open_clip folder (``open_clip:local-dir:<path>``), the others
    are transformers folders (``hf:<path>``); ``plain`` is the captioner without injected mistakes.

    Raises ``ValueError`` for another name, ``FileNotFoundError`` where the weights are missing.
    """
    if model not in MODELS:
        raise ValueError(f"no shipped model {model!r}; there are: {', '.join(MODELS)}")
    folder = _FOLDER / model
    if not (folder / _MARKER[model]).is_file():
        raise FileNotFoundError(
            f"the {model} weights are missing from {folder}: run `make world` to train them, "
            "or reinstall the sightline package"
        )
    return folder


def profile_path() -> Path:
    """The calibration profile of the similarity model.

    ``FileNotFoundError`` where it is missing.
    """
    file = _FOLDER / PROFILE
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: run `make world` to make it")
    return file
