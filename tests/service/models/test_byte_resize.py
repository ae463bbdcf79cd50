"""The fast resize beside the one that the models were trained with."""

import numpy as np
import PIL.Image
import pytest
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Pad, Resize

from sightline_service.models.byte_resize import ByteResize

SIZES = [(336, 336), (640, 480), (200, 300), (31, 500), (224, 224), (225, 224)]


def picture(size):
    rng = np.random.default_rng(size)
    coarse = PIL.Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize(size)
    noisy = np.asarray(coarse) + rng.normal(0, 12, (size[1], size[0], 3))
    return PIL.Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", [InterpolationMode.BICUBIC, InterpolationMode.BILINEAR])
@pytest.mark.parametrize("crops", [True, False])
def test_a_byte_differs_from_pils_by_one_at_most_and_hardly_ever(size, mode, crops):
    steps = [Resize(224, mode), CenterCrop(224)] if crops else [Resize((224, 224), mode)]
    fast = ByteResize.of(steps)
    assert fast is not None
    expected = np.asarray(Compose(steps)(picture(size))).astype(int)
    found = fast(picture(size))
    assert found.dtype == np.uint8
    assert found.shape == expected.shape == (224, 224, 3)
    differences = np.abs(found - expected)
    assert differences.max() <= 1
    assert differences.mean() < 0.03


@pytest.mark.parametrize(
    "steps",
    [
        [Resize(224, InterpolationMode.NEAREST)],
        [Resize(224, max_size=300)],
        [Pad(3), Resize(224)],
        [Resize(224), Pad(3)],
        [Resize(224), CenterCrop(224), Pad(3)],
    ],
)
def test_what_it_does_not_know_is_left_to_the_library(steps):
    assert ByteResize.of(steps) is None
