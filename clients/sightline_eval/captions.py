"""Captions on disk: one JSON object a line. Knows files and image ids; knows nothing of objects."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption and the id of its image."""

    image: int
    text: str


def load_captions(path: Path, file_names: Mapping[int, str]) -> tuple[Caption, ...]:
    """Reads captions, one JSON object a line: `caption` and either `image_id` or `image`.

    Args:
        path: the file; blank lines are skipped.
        file_names: image id -> file name; `image` is looked up there, by its last part.

    Raises:
        ValueError: a line is no such object or names an unknown image; the message gives the line.
    """
    ids = {Path(name).name: image for image, name in file_names.items()}
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    captions = tuple(
        _caption(line, f"{path}:{n}", ids, file_names) for n, line in lines if line.strip()
    )
    if not captions:
        raise ValueError(f"{path} holds no captions")
    return captions


def _caption(line: str, place: str, ids: Mapping[str, int], known: Mapping[int, str]) -> Caption:
    try:
        record = json.loads(line)
        text = record["caption"]
        image = record["image_id"] if "image_id" in record else ids[Path(record["image"]).name]
    except json.JSONDecodeError as error:
        raise ValueError(f"{place} is not JSON: {error}") from None
    except (KeyError, TypeError) as error:
        raise ValueError(
            f'{place} needs "caption" and "image_id", or "image" with a file name of the '
            f"annotations: {error} not found"
        ) from None
    if not str(image).isdigit() or int(image) not in known:
        raise ValueError(f"{place}: image {image!r} is not annotated: add it to the annotations")
    return Caption(int(image), str(text))
