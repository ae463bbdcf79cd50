"""The fast resize beside the one that the models were trained with."""

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Pad, Resize
from torchvision.transforms.v2 import functional

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


SIDE = st.integers(1, 300)
STEPS = [
    [Resize(32, InterpolationMode.BICUBIC), CenterCrop(32)],
    [Resize([33], InterpolationMode.BILINEAR), CenterCrop((30, 38))],
    [Resize((32, 41), InterpolationMode.BICUBIC)],
    [Resize((41, 32), InterpolationMode.BILINEAR), CenterCrop(50)],
    [Resize(32, InterpolationMode.BICUBIC)],
]


@settings(max_examples=200, deadline=None)
@given(width=SIDE, height=SIDE, steps=st.sampled_from(STEPS))
def test_the_bytes_are_those_of_torchvisions_own_steps(width, height, steps):
    rng = np.random.default_rng((width, height))
    image = PIL.Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    resize, *crop = steps
    target = resize(image).size[::-1]
    sides = [resize.size] * 2 if isinstance(resize.size, int) else [*resize.size] * 2
    if height < sides[0] or width < sides[1]:
        expected = np.asarray(Compose(steps)(image))
    else:
        planes = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        resized = functional.resize(planes, target, resize.interpolation, antialias=True)
        expected = Compose(crop)(resized).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(ByteResize.of(steps)(image), expected)


def test_an_image_and_what_was_made_of_it_share_no_memory():
    image = picture((48, 48))
    resize = ByteResize.of([Resize(48, InterpolationMode.BICUBIC), CenterCrop(48)])
    found = resize(image)
    before = found.copy()
    image.paste((1, 2, 3), (0, 0, 48, 48))
    np.testing.assert_array_equal(found, before)


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
