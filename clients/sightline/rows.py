"""Lines of a JSONL file: an image and its texts. Knows the file's form; knows no service."""

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from sightline_proto import validation_detail


@dataclass(frozen=True, slots=True)
class Row:
    """One image with its texts; `origin` is the file and line, or the image's path."""

    origin: str
    image: Path
    texts: tuple[str, ...]
    id: str | None = None
    token_offsets: tuple[tuple[tuple[int, int], ...], ...] | None = None
    language_scores: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that cannot be used, and why."""

    origin: str
    message: str


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=False)

    image: str | None = None
    text: str | None = None
    texts: tuple[str, ...] | None = None
    id: str | int | None = None
    token_offsets: tuple[tuple[tuple[int, int], ...], ...] | None = None
    language_scores: tuple[float, ...] | None = None


def read_rows(
    lines: Iterable[bytes], *, name: str, folder: Path, image: Path | None = None
) -> Iterator[Row | BadRow]:
    """Reads lines of `{"image": PATH, "text": TEXT}`; `sightline score --help` names all fields.

    Blank lines are skipped, other fields ignored.

    Args:
        lines: the file's lines, in UTF-8.
        name: what errors call the file.
        folder: where relative image paths begin.
        image: the image of lines that name none.
    """
    for number, line in enumerate(lines, start=1):
        content = line.removeprefix(codecs.BOM_UTF8).strip()
        if content:
            yield _row(f"{name}:{number}", content, folder, image)


def _row(origin: str, line: bytes, folder: Path, image: Path | None) -> Row | BadRow:
    try:
        fields = _Line.model_validate_json(line)
    except ValidationError as error:
        return BadRow(origin, validation_detail(error).message.removeprefix("the body is "))
    path = folder / fields.image if fields.image is not None else image
    if path is None:
        return BadRow(origin, 'no "image": name its file in the line, or give one on the command')
    if (fields.text is None) == (fields.texts is None):
        return BadRow(origin, 'give either "text" or "texts"')
    return Row(
        origin=origin,
        image=path,
        texts=fields.texts if fields.texts is not None else (fields.text or "",),
        id=None if fields.id is None else str(fields.id),
        token_offsets=fields.token_offsets,
        language_scores=fields.language_scores,
    )
