"""The memory of PIL images beside the copy that numpy makes of it."""

import gc

import numpy as np
import PIL.Image
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_service.models.pixel_memory import pixel_memory


def noise(width, height):
    pixels = np.random.default_rng((width, height)).integers(0, 256, (height, width, 3))
    return PIL.Image.fromarray(pixels.astype(np.uint8))


@settings(max_examples=50, deadline=None)
@given(width=st.integers(1, 300), height=st.integers(1, 300))
def test_the_bytes_are_those_of_a_copy(width, height):
    image = noise(width, height)
    pixels = pixel_memory(image)
    assert pixels.shape == (height, width, 4)
    np.testing.assert_array_equal(pixels[..., :3], np.asarray(image))


def test_the_memory_is_the_images_own_and_outlives_it():
    image = noise(400, 300)
    pixels = pixel_memory(image)
    image.putpixel((7, 5), (1, 2, 3))
    assert pixels[5, 7, :3].tolist() == [1, 2, 3]
    expected = np.array(image)
    del image
    gc.collect()
    others = [noise(400, 300) for _ in range(5)]  # would be given the memory, were it free
    np.testing.assert_array_equal(pixels[..., :3], expected)
    assert len(others) == 5


def test_an_image_whose_rows_lie_in_several_blocks_is_copied():
    image = PIL.Image.linear_gradient("L").resize((2100, 2100)).convert("RGB")
    pixels = pixel_memory(image)
    np.testing.assert_array_equal(pixels[..., :3], np.asarray(image))
    image.putpixel((0, 0), (9, 9, 9))
    assert pixels[0, 0, :3].tolist() == [0, 0, 0]
