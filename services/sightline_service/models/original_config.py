"""The configuration of an original Grounding DINO checkpoint. Knows Python's grammar; runs none."""

import ast
from pathlib import Path
from typing import Any

from sightline_service.models.reference import ModelLoadError, ModelReference


def original_files(reference: ModelReference) -> tuple[Path, Path]:
    """Returns configuration and checkpoint of `groundingdino:CONFIG,CHECKPOINT`.

    Raises:
        ModelLoadError: one is missing.
    """
    assert reference.names is not None
    config, weights = (Path(name).expanduser() for name in reference.names)
    for path in (config, weights):
        if not path.is_file():
            raise ModelLoadError(f"{reference.text}: there is no file {path}: check the path")
    return config, weights


def read_original_config(path: Path) -> dict[str, Any]:
    """Reads the assignments of a configuration in Python, without running it.

    Raises:
        ModelLoadError: a line is no assignment of a literal.
    """
    try:
        lines = ast.parse(path.read_text(encoding="utf-8")).body
        return dict(_assignment(line) for line in lines)
    except (ValueError, SyntaxError) as error:
        raise ModelLoadError(
            f"{path} is no configuration of Grounding DINO ({error}): use the package's own, for "
            "example GroundingDINO_SwinT_OGC.py"
        ) from None


def _assignment(line: ast.stmt) -> tuple[str, Any]:
    if not isinstance(line, ast.Assign) or not isinstance(line.targets[0], ast.Name):
        raise ValueError(f"line {line.lineno} is no assignment")
    return line.targets[0].id, ast.literal_eval(line.value)


def missing_package(reference: ModelReference, module: str | None) -> ModelLoadError:
    """The refusal where groundingdino-py, or something that it needs, is not installed."""
    name = (module or "groundingdino").partition(".")[0]
    return ModelLoadError(
        f"{reference.text}: original Grounding DINO checkpoints need the package {name}: pip "
        "install 'sightline[groundingdino]', or use the same weights in transformers' layout, "
        "hf:IDEA-Research/grounding-dino-base"
    )
