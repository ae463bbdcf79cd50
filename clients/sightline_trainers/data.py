"""Images and prompts: JSONL, LLaVA-Instruct JSON, or the world's scenes. Knows files; no model."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import PIL.Image
import PIL.ImageOps

from sightline_world.captions import DESCRIBE
from sightline_world.scenes import scene
from sightline_world.splits import SPLITS, Split

Format = Literal["jsonl", "llava", "world"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the images and prompts come from.

    Raises:
        ValueError: a combination is impossible.
    """

    format: Format = "jsonl"
    """jsonl: lines of {"image", "prompt"}; llava: LLaVA-Instruct's JSON; world: drawn scenes."""
    path: Path | None = None
    """The JSONL or JSON file."""
    image_folder: Path | None = None
    """Where relative image paths begin; the file's own folder where it is left out."""
    prompt: str = DESCRIBE
    """For rows that name none, and for the world's scenes."""
    limit: int | None = None
    """Take the first rows only; the world needs it."""
    world_split: Split = "train"
    world_start: int = 0
    """The first scene's index."""
    world_seed: int = 0

    def __post_init__(self) -> None:
        """Refuses what cannot be read."""
        if (self.format == "world") != (self.path is None):
            needs = "draws its scenes: remove path" if self.format == "world" else "needs a path"
            raise ValueError(f"data.format {self.format!r} {needs}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"data.limit is {self.limit}: give 1 or more")
        if self.format == "world" and self.limit is None:
            raise ValueError("data.limit is missing: say how many scenes of the world to draw")
        if self.world_split not in SPLITS:
            raise ValueError(f"data.world_split is {self.world_split!r}: one of {SPLITS}")
        if self.world_start < 0:
            raise ValueError(f"data.world_start is {self.world_start}: give 0 or more")


@dataclass(frozen=True, slots=True)
class SceneSource:
    """A scene of the world, drawn when it is asked for."""

    split: Split
    index: int
    seed: int


@dataclass(frozen=True, slots=True)
class Row:
    """One image and one prompt; `origin` is what errors call it (file and line, or scene)."""

    origin: str
    image: Path | SceneSource
    prompt: str


def read_rows(config: DataConfig) -> tuple[Row, ...]:
    """All rows, in the order of the source.

    Raises:
        ValueError: a row is not usable, with its file and line, or there are none.
        OSError: the file cannot be read.
    """
    if config.path is None:
        rows = tuple(_scenes(config))
    else:
        folder = config.image_folder or config.path.parent
        read = _jsonl if config.format == "jsonl" else _llava
        rows = tuple(read(config.path, folder, config.prompt, config.limit))
    if not rows:
        raise ValueError(f"{config.path}: no rows, give at least one image with a prompt")
    return rows


def load_image(row: Row) -> tuple[PIL.Image.Image, bytes]:
    """The picture as the policy sees it (RGB, upright), and the file's bytes for the service.

    Raises:
        ValueError: the image cannot be read, with the row's origin.
    """
    if isinstance(row.image, SceneSource):
        image = scene(row.image.split, row.image.index, seed=row.image.seed).image
        file = BytesIO()
        image.save(file, "PNG")
        return image, file.getvalue()
    try:
        data = row.image.read_bytes()
        with PIL.Image.open(BytesIO(data)) as opened:
            return PIL.ImageOps.exif_transpose(opened).convert("RGB"), data
    except (OSError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise ValueError(
            f"{row.origin}: image {str(row.image)!r} cannot be read: {error}"
        ) from error


def _scenes(config: DataConfig) -> Iterator[Row]:
    for index in range(config.world_start, config.world_start + (config.limit or 0)):
        source = SceneSource(config.world_split, index, config.world_seed)
        yield Row(f"world:{config.world_split}:{index}", source, config.prompt)


def _jsonl(path: Path, folder: Path, prompt: str, limit: int | None) -> Iterator[Row]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if limit is not None and limit <= 0:
                return
            if not line.strip():
                continue
            origin = f"{path}:{number}"
            yield _row(origin, _parsed(line, origin), folder, prompt)
            limit = limit if limit is None else limit - 1


def _llava(path: Path, folder: Path, prompt: str, limit: int | None) -> Iterator[Row]:
    """The first question of each conversation; those without an image are skipped."""
    records = _parsed(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(records, list):
        raise ValueError(f"{path}: is not a JSON list of conversations")
    taken = 0
    for number, record in enumerate(records):
        if limit is not None and taken >= limit:
            return
        origin = f"{path}[{number}]"
        if isinstance(record, dict) and "image" not in record:
            continue
        taken += 1
        yield _row(
            origin,
            {**_mapping(record, origin), "prompt": _question(record, origin)},
            folder,
            prompt,
        )


def _parsed(text: str, origin: str) -> Any:  # noqa: ANN401 - JSON, checked by the callers
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{origin}:{error.lineno}" if "\n" in text.strip() else origin
        raise ValueError(f"{place}: not JSON ({error.msg} at column {error.colno})") from None


def _question(record: dict[str, Any], origin: str) -> str:
    turns: Sequence[Any] = record.get("conversations") or ()
    asked = [
        turn.get("value")
        for turn in turns
        if isinstance(turn, dict) and turn.get("from") == "human"
    ]
    if not asked or not isinstance(asked[0], str):
        raise ValueError(f'{origin}: "conversations" holds no turn from "human" with a "value"')
    return asked[0].replace("<image>", "").strip()


def _mapping(record: Any, origin: str) -> dict[str, Any]:  # noqa: ANN401 - JSON
    if not isinstance(record, dict):
        raise ValueError(f'{origin}: not an object: write {{"image": PATH, "prompt": TEXT}}')
    return record


def _row(origin: str, record: Any, folder: Path, default: str) -> Row:  # noqa: ANN401 - JSON
    fields = _mapping(record, origin)
    image, prompt = fields.get("image"), fields.get("prompt", default)
    if not isinstance(image, str) or not image:
        raise ValueError(f'{origin}: "image" is {image!r}: give the path of a file')
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(f'{origin}: "prompt" is {prompt!r}: give a text')
    path = folder / image
    if not path.is_file():
        raise ValueError(
            f"{origin}: there is no file {str(path)!r}: mend the path, or image_folder"
        )
    return Row(origin, path, prompt)
