"""The world's scenes with its captioner's captions. Knows the world; scores nothing."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import PIL.Image

from sightline_world.scenes import Scene, scenes
from sightline_world.splits import Split

_BATCH = 50


class ImageCaptioner(Protocol):
    """The part of the world's `Captioner` that is needed here."""

    def caption(
        self, images: Sequence[PIL.Image.Image], *, sampled: bool = False, seed: int = 0
    ) -> list[str]:
        """One caption per image."""
        ...


@dataclass(frozen=True, slots=True)
class CaptionedScene:
    """One scene, its PNG file, and two captions: greedy, and sampled at temperature 1."""

    scene: Scene
    png: bytes
    greedy: str
    sampled: str


def load_captioner() -> ImageCaptioner:
    """The shipped captioner; torch computes with one thread from here on.

    A second thread gains nothing on tensors as small as its, and where cores are shared, threads
    that wait for each other make it several times slower.

    Raises:
        FileNotFoundError: its weights are missing.
    """
    import torch  # these take seconds to import
    from transformers.utils import logging

    from sightline_world.captioner import Captioner

    torch.set_num_threads(1)
    # Its bar over the weights would interleave with ours. The function carries no annotations.
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return Captioner()


def draw_scenes(
    split: Split,
    count: int,
    *,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[Scene]:
    """The first `count` scenes of a split."""
    drawn: list[Scene] = []
    for scene in scenes(split, count, seed=seed):
        drawn.append(scene)
        on_progress(1)
    return drawn


def caption_scenes(
    captioner: ImageCaptioner,
    drawn: Sequence[Scene],
    *,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[CaptionedScene]:
    """Two captions for each scene, one greedy and one sampled.

    Where the captioner says nothing, a full stop stands for it: it names nothing either, and the
    service takes no empty text.
    """
    captioned: list[CaptionedScene] = []
    for start in range(0, len(drawn), _BATCH):
        batch = drawn[start : start + _BATCH]
        images = [scene.image for scene in batch]
        greedy = captioner.caption(images)
        sampled = captioner.caption(images, sampled=True, seed=seed + start)
        captioned += [
            CaptionedScene(scene, encode_png(scene.image), sure or ".", drawn_text or ".")
            for scene, sure, drawn_text in zip(batch, greedy, sampled, strict=True)
        ]
        on_progress(len(batch))
    return captioned


def encode_png(image: PIL.Image.Image) -> bytes:
    """The image as a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
