"""What is asked: pictures, captions and how often each comes again. Knows no HTTP, no models."""

import base64
import io
import struct
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

import numpy as np
import PIL.Image

_QUALITY = 90
_MARK = 9
"""Bytes of a JPEG comment: with its frame and the start of the file, 15, five base64 quanta."""
_ADJECTIVES = "small large red blue green yellow old young wooden shiny striped dark"
_NOUNS = (
    "dog cat horse bus bench umbrella bicycle bird boat clock cup table chair kite skier truck "
    "laptop pizza sheep train zebra surfer elephant bear"
)
_VERBS = "stands sits waits lies leans rests"
_PLACES = "street beach kitchen meadow harbour garden station market forest room"
_WORDS = [words.split() for words in (_ADJECTIVES, _NOUNS, _VERBS, _PLACES, _NOUNS)]


@dataclass(frozen=True, slots=True)
class Load:
    """A stream of units, each one image with its texts.

    Attributes:
        name: names it in reports.
        n_texts: texts of each image.
        n_images: how many different images come in turn; None for no image twice.
        n_captions: how many different units' texts come in turn; None for no text twice.
        sizes: width and height of the images, in turn.
        long_every: every so many units the texts are long; 0 for never.
        n_sentences: sentences of each text.
    """

    name: str
    n_texts: int = 1
    n_images: int | None = None
    n_captions: int | None = None
    sizes: tuple[tuple[int, int], ...] = ((336, 336),)
    long_every: int = 0
    n_sentences: int = 1


@dataclass(frozen=True, slots=True)
class Unit:
    """One image, as a file and as base64, and its texts; `is_long`: other than the load's first."""

    image: bytes
    image_base64: str
    texts: tuple[str, ...]
    is_long: bool = False


LOADS = {
    load.name: load
    for load in (
        Load("distinct-1", n_texts=1),
        Load("distinct-20", n_texts=20),
        Load("groups-8", n_texts=8),
        Load("repeated-all", n_texts=1, n_images=256, n_captions=256),
        Load("few-images-20", n_texts=20, n_images=8),
        Load("few-images-and-texts", n_texts=1, n_images=8, n_captions=8),
        Load("thumbnails", sizes=((64, 64),)),
        Load("mixed-sizes", sizes=((336, 336), (640, 480), (200, 300), (1024, 768))),
        Load("long-texts", long_every=8),
        Load("paragraphs", n_sentences=4),
    )
}


class Picture:
    """A JPEG that can be made into any number of files which differ, and look alike."""

    def __init__(self, jpeg: bytes) -> None:
        assert jpeg[:2] == b"\xff\xd8"
        self._tail = jpeg[2:]

    @cached_property
    def _tail_base64(self) -> str:
        return base64.b64encode(self._tail).decode()

    def marked(self, number: int) -> tuple[bytes, str]:
        """Returns the file with `number` in a comment, which no decoder looks at, and its base64.

        The comment ends where a base64 quantum ends, so that the rest is encoded only once.
        """
        head = b"\xff\xd8\xff\xfe" + struct.pack(">H", _MARK + 2) + f"{number:09d}".encode()
        return head + self._tail, base64.b64encode(head).decode() + self._tail_base64


class Stream:
    """The units of a load, by number: the same number gives the same unit, in any process."""

    def __init__(self, load: Load, folder: Path) -> None:
        self._load = load
        self._pictures = [Picture(jpeg(size, folder)) for size in load.sizes]

    def unit(self, number: int) -> Unit:
        """Returns unit `number`, which counts from 0."""
        load = self._load
        n_image = number if load.n_images is None else number % load.n_images
        n_caption = number if load.n_captions is None else number % load.n_captions
        picture = self._pictures[n_image % len(self._pictures)]
        is_long = load.long_every > 0 and number % load.long_every == 0
        each = load.n_sentences
        first = n_caption * load.n_texts * each
        captions = [caption(first + n, long=is_long) for n in range(load.n_texts * each)]
        texts = tuple(" ".join(captions[n : n + each]) for n in range(0, len(captions), each))
        is_other = n_image % len(self._pictures) > 0
        return Unit(*picture.marked(n_image), texts, is_long or is_other)


def caption(number: int, *, long: bool = False) -> str:
    """Returns a sentence of about a dozen tokens; different numbers give different sentences."""
    rest = number
    words: list[str] = []
    for choices in _WORDS:
        rest, index = divmod(rest, len(choices))
        words.append(choices[index])
    adjective, noun, verb, place, other = words
    again = f", number {rest}" if rest else ""
    more = " and the light is soft with clouds above the roofs" * 3 if long else ""
    return f"A {adjective} {noun} {verb} in the {place} near a {other}{again}{more}."


def jpeg(size: tuple[int, int], folder: Path) -> bytes:
    """Returns a picture of `size`, kept in `folder`: soft shapes with the noise of a camera."""
    width, height = size
    path = folder / f"{width}x{height}.jpg"
    if not path.exists():
        rng = np.random.default_rng((width, height))
        coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        soft = PIL.Image.fromarray(coarse).resize(size, PIL.Image.Resampling.BICUBIC)
        noisy = np.asarray(soft) + rng.normal(0, 6, (height, width, 3))
        file = io.BytesIO()
        image = PIL.Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        image.save(file, "JPEG", quality=_QUALITY)
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())
    return path.read_bytes()


def numbers(start: int, connection: int, connections: int) -> "count[int]":
    """Returns the unit numbers of one of several connections that share a stream."""
    return count(start + connection, connections)
