"""Resizing on bytes with the processor's vector instructions. Knows torch; knows no model.

PIL computes the same filter with more bits and several times slower. Where an image shrinks, a byte
differs by 1 at most; where it grows, by more, so that this is left to PIL.
"""

from collections.abc import Sequence

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torchvision.transforms import (  # type: ignore[import-untyped]  # no types
    CenterCrop,
    InterpolationMode,
    Resize,
)

from sightline_service.models.pixel_memory import pixel_memory

_AS_IN_PIL = frozenset({InterpolationMode.BICUBIC, InterpolationMode.BILINEAR})


class ByteResize:
    """Resizes, and crops to the centre, as two steps of torchvision do to a PIL image.

    Args:
        resize: the first step.
        crop: the second, if there is one.
    """

    def __init__(self, resize: Resize, crop: CenterCrop | None) -> None:
        self._size = [resize.size] if isinstance(resize.size, int) else [*resize.size]
        self._resize = resize
        self._crop = crop

    @classmethod
    def of(cls, steps: Sequence[object]) -> "ByteResize | None":
        """Returns what does the same as `steps`, or None where that is not known."""
        resize, *rest = steps
        if not isinstance(resize, Resize) or resize.max_size is not None:
            return None
        if resize.interpolation not in _AS_IN_PIL or len(rest) > 1:
            return None
        crop = rest[0] if rest else None
        return cls(resize, crop) if crop is None or isinstance(crop, CenterCrop) else None

    def __call__(self, image: PIL.Image.Image) -> NDArray[np.uint8]:
        """Returns bytes [h, w, 3] of an RGB image."""
        grows = image.height < self._size[0] or image.width < self._size[-1]
        resized = self._resize(image) if grows else self._shrunk(image)
        if self._crop is not None and resized.size != (self._crop.size[1], self._crop.size[0]):
            resized = self._crop(resized)
        packed = np.frombuffer(resized.tobytes("raw", "RGB"), np.uint8)
        return packed.reshape(resized.height, resized.width, 3)

    def _shrunk(self, image: PIL.Image.Image) -> PIL.Image.Image:
        """Returns pixels of PIL's kind RGBX, in few steps, as each gives Python's lock away.

        Four bytes to a pixel are resized faster than three. The batch axis needs the stride of
        a whole image: with any other, torch returns planes, which it then makes by a copy.
        """
        pixels = pixel_memory(image)
        height, width, channels = pixels.shape
        batch = pixels.reshape(1, height, width, channels).transpose(0, 3, 1, 2)
        resized = torch.nn.functional.interpolate(
            torch.from_numpy(batch),
            size=self._target(height, width),
            mode=self._resize.interpolation.value,
            antialias=True,
        )
        rows = resized.numpy()[0].transpose(1, 2, 0)
        size = rows.shape[1], rows.shape[0]
        return PIL.Image.frombuffer("RGBX", size, rows, "raw", "RGBX", 0, 1)

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if len(self._size) > 1:
            return self._size[0], self._size[1]
        short = self._size[0]
        if width <= height:
            return int(short * height / width), short
        return short, int(short * width / height)
