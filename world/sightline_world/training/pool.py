"""Many scenes at the resolution the models see, drawn once and kept in a folder.

Knows scenes and NumPy; knows nothing of torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from sightline_world.scenes import Layout, SceneObject, scene
from sightline_world.splits import Split

MODEL_SIZE = 96  # pixels per side of what the models see
_CHUNK = 500

Chunk = tuple[Split, int, int]  # split, first index, count
DrawnChunk = tuple[npt.NDArray[np.uint8], list[str]]  # pixels, a line of JSON per layout


@dataclass(frozen=True, slots=True)
class Pool:
    """Scenes of one split: ``pixels`` uint8 (N, 96, 96, 3), boxes in scene pixels (192)."""

    split: Split
    pixels: npt.NDArray[np.uint8]
    layouts: Sequence[Layout]

    def __len__(self) -> int:
        """How many scenes."""
        return len(self.layouts)


def model_view(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The scene as the models' preprocessing resizes it: Pillow's bicubic, (96, 96, 3)."""
    return np.array(image.resize((MODEL_SIZE, MODEL_SIZE), Image.Resampling.BICUBIC))


def load_pool(split: Split, count: int, folder: Path, *, processes: int = 2) -> Pool:
    """The first ``count`` scenes of ``split``.

    Drawn into ``folder`` unless they lie there already.
    """
    pixels_path = folder / f"{split}-{count}.npy"
    layouts_path = folder / f"{split}-{count}.jsonl"
    if not layouts_path.is_file():
        _draw(split, count, pixels_path, layouts_path, processes)
    with layouts_path.open(encoding="utf-8") as lines:
        layouts = [_read_layout(line) for line in lines]
    return Pool(split, np.load(pixels_path), layouts)


def _draw(split: Split, count: int, pixels_path: Path, layouts_path: Path, processes: int) -> None:
    pixels_path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.empty((count, MODEL_SIZE, MODEL_SIZE, 3), dtype=np.uint8)
    chunks: list[Chunk] = [
        (split, start, min(_CHUNK, count - start)) for start in range(0, count, _CHUNK)
    ]
    lines: list[str] = []
    for drawn, described in _chunks_drawn(chunks, processes):
        pixels[len(lines) : len(lines) + len(drawn)] = drawn
        lines.extend(described)
    np.save(pixels_path, pixels)
    layouts_path.write_text("".join(lines), encoding="utf-8")  # last: it marks the pool complete


def _chunks_drawn(chunks: Sequence[Chunk], processes: int) -> Iterator[DrawnChunk]:
    if processes == 1:
        yield from map(_draw_chunk, chunks)
        return
    with get_context("spawn").Pool(processes) as workers:
        yield from workers.imap(_draw_chunk, chunks)


def _draw_chunk(chunk: Chunk) -> DrawnChunk:
    split, start, count = chunk
    made = [scene(split, index) for index in range(start, start + count)]
    return np.stack([model_view(one.image) for one in made]), [_line(one.layout) for one in made]


def _line(layout: Layout) -> str:
    objects = [[thing.name, *thing.box] for thing in layout.objects]
    return json.dumps([layout.kind, objects]) + "\n"


def _read_layout(line: str) -> Layout:
    kind, objects = json.loads(line)
    return Layout(kind, tuple(SceneObject(name, (a, b, c, d)) for name, a, b, c, d in objects))
