"""Small pictures of every format that the service reads. Knows PIL."""

import io

import numpy as np
import PIL.Image


def png(seed: int, size: tuple[int, int] = (40, 32)) -> bytes:
    return encoded(seed, "PNG", size)


def encoded(seed: int, file_format: str, size: tuple[int, int] = (40, 32), **options) -> bytes:
    """A file whose pixels depend on the seed: smooth waves with some noise on them."""
    draw = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    wave = np.sin(x / 5 + seed)[..., None] * np.cos(y / 7)[..., None] * draw.uniform(40, 100, 3)
    pixels = 128 + wave + draw.normal(0, 6, (size[1], size[0], 3))
    image = PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()
