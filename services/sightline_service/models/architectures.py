"""Which architectures the installed transformers has. Knows its sources; imports none of them.

The import takes seconds, and a wrong folder should be told at once. What is read here is only
enough to refuse: whoever loads a model asks the library itself.
"""

import ast
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from sightline_service.models.checkpoint import Checkpoint
from sightline_service.models.reference import ModelLoadError

Kind = Literal["similarity", "detector", "perplexity"]

DETECTORS = frozenset({"owlvit", "owlv2", "grounding-dino", "mm-grounding-dino", "omdet-turbo"})
"""The architectures of detectors that are served."""

_WRITES_TEXT = ("MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")
_REFUSALS: Mapping[Kind, str] = {
    "similarity": "does not embed images and texts in one space: use CLIP or SigLIP, for example "
    "hf:google/siglip-base-patch16-224",
    "detector": f"is no detector that is served: use one of {', '.join(sorted(DETECTORS))}, for "
    "example hf:IDEA-Research/grounding-dino-base",
    "perplexity": "does not write text: use for example hf:llava-hf/llava-1.5-7b-hf",
}
_MEND = "name a folder that save_pretrained wrote, or a repository in that layout"


def model_type_of(checkpoint: Checkpoint) -> str:
    """Returns the `model_type` of a folder's configuration.

    Raises:
        ModelLoadError: there is no configuration, or transformers lacks its architecture.
    """
    model_type = checkpoint.read_json("config.json", mend=_MEND).get("model_type")
    if not isinstance(model_type, str) or not _is_known(model_type):
        raise unknown(checkpoint, model_type)
    return model_type


def unknown(checkpoint: Checkpoint, model_type: object) -> ModelLoadError:
    """The refusal of an architecture that transformers does not have."""
    return ModelLoadError(
        f"{checkpoint.folder / 'config.json'} names the architecture {model_type!r}, which "
        f"transformers {version('transformers')} does not have and whose own code is not run: use "
        "a model of a supported architecture"
    )


def of_another_kind(checkpoint: Checkpoint, kind: Kind, model_type: str) -> ModelLoadError:
    """The refusal of a model that cannot do what is asked of it."""
    return ModelLoadError(
        f"{checkpoint.folder} holds a {model_type} model, which {_REFUSALS[kind]}"
    )


def check_kind(checkpoint: Checkpoint, kind: Kind) -> None:
    """Checks that a folder's architecture exists and can do what is asked of it.

    Raises:
        ModelLoadError: there is no such architecture, or it is of another kind.
    """
    model_type = model_type_of(checkpoint)
    if not _fits(kind, model_type):
        raise of_another_kind(checkpoint, kind, model_type)


def _fits(kind: Kind, model_type: str) -> bool:
    if kind == "detector":
        return model_type in DETECTORS
    if kind == "perplexity":
        tables = [_keys(table) for table in _WRITES_TEXT]
        return not all(tables) or any(model_type in table for table in tables)
    files = sorted((_library() / "models" / model_type.replace("-", "_")).glob("modeling_*.py"))
    return not files or any("def get_text_features" in _source(file) for file in files)


@cache
def _is_known(model_type: str) -> bool:
    auto = _library() / "models" / "auto"
    quoted = f'"{model_type}"'
    return any(
        quoted in _source(auto / f"{name}.py") for name in ("auto_mappings", "configuration_auto")
    )


@cache
def _keys(table: str) -> frozenset[str]:
    """The model types of a table in modeling_auto.py; none where it has no such table."""
    source = _source(_library() / "models" / "auto" / "modeling_auto.py")
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == table:
            return frozenset(re.findall(r"\('([^']+)', ", ast.unparse(statement.value)))
    return frozenset()


def _source(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _library() -> Path:
    spec = find_spec("transformers")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0])
