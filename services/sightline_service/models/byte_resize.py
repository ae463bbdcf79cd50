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
from torchvision.transforms.v2 import functional  # type: ignore[import-untyped]  # no types

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
        height, width = self._size[0], self._size[-1]
        if image.height < height or image.width < width:
            image = self._resize(image)
        channels_first = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        resized = functional.resize(
            channels_first, self._size, interpolation=self._resize.interpolation, antialias=True
        )
        cut = resized if self._crop is None else self._crop(resized)
        pixels: NDArray[np.uint8] = cut.permute(1, 2, 0).numpy()
        return pixels
