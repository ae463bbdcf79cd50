"""Every kind of image file, sound and hostile, through `decode_image`."""

import contextlib
import io
import struct
import warnings
import zlib

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_proto import ErrorCode
from sightline_service.images import (
    DecodeLimits,
    ImageFormatError,
    ImageInvalidError,
    ImageRefusedError,
    ImageTooLargeError,
    decode_image,
)

LIMITS = DecodeLimits(max_bytes=4_000_000, max_pixels=1_000_000)
FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]


def encoded(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def quadrants(width=24, height=16):
    """Red, green over blue, white: no two of the eight orientations look alike."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 255, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 255)
    pixels[height // 2 :, width // 2 :] = (255, 255, 255)
    return PIL.Image.fromarray(pixels)


def close(image, expected, tolerance):
    difference = np.abs(np.asarray(image, dtype=int) - np.asarray(expected, dtype=int))
    return image.size == expected.size and difference.mean() <= tolerance


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_becomes_rgb_with_its_pixels(file_format):
    image = decode_image(encoded(quadrants(), file_format), LIMITS)
    assert image.mode == "RGB"
    assert close(image, quadrants(), tolerance=12 if file_format in {"JPEG", "WEBP"} else 0)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone_in_every_format(file_format, orientation):
    undo = {
        1: lambda image: image,
        2: lambda image: image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda image: image.rotate(180, expand=True),
        4: lambda image: image.transpose(PIL.Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda image: image.transpose(PIL.Image.Transpose.TRANSPOSE),
        6: lambda image: image.rotate(90, expand=True),
        7: lambda image: image.transpose(PIL.Image.Transpose.TRANSVERSE),
        8: lambda image: image.rotate(-90, expand=True),
    }
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    stored = undo[orientation](quadrants())
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = encoded(stored, file_format, exif=exif, **options)
    upright = decode_image(data, LIMITS)
    assert close(upright, quadrants(), tolerance=12 if file_format == "JPEG" else 0)


def test_a_broken_exif_block_does_not_refuse_the_pixels():
    data = encoded(quadrants(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert decode_image(data, LIMITS).size == (24, 16)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_on_white(mode):
    half = PIL.Image.new("RGBA", (4, 4), (0, 0, 0, 128)).convert(mode)
    clear = PIL.Image.new("RGBA", (4, 4), (200, 10, 10, 0)).convert(mode)
    assert decode_image(encoded(half, "PNG"), LIMITS).getpixel((0, 0)) == (127, 127, 127)
    assert decode_image(encoded(clear, "PNG"), LIMITS).getpixel((0, 0)) == (255, 255, 255)


def test_a_transparent_palette_entry_becomes_white():
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putdata([0, 1])
    for data in (encoded(image, "PNG", transparency=0), encoded(image, "GIF", transparency=0)):
        decoded = decode_image(data, LIMITS)
        assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (10, 20, 30)]


def test_a_palette_with_one_alpha_for_each_entry_is_laid_on_white():
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putdata([0, 1])
    decoded = decode_image(encoded(image, "PNG", transparency=bytes([0, 255])), LIMITS)
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (10, 20, 30)]


def test_a_transparent_colour_key_becomes_white():
    image = PIL.Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    decoded = decode_image(encoded(image, "PNG", transparency=(1, 2, 3)), LIMITS)
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (9, 9, 9)]


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(file_format):
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    decoded = decode_image(encoded(PIL.Image.fromarray(values), file_format), LIMITS)
    assert [decoded.getpixel((x, 0))[0] for x in range(4)] == [0, 1, 128, 255]


def png(width, height, *, depth, colour, rows, extra=b""):
    def chunk(kind, body):
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_sixteen_bit_colour_is_scaled():
    row = b"\x00" + struct.pack(">6H", 65535, 32768, 0, 257, 514, 65280)
    decoded = decode_image(png(2, 1, depth=16, colour=2, rows=row), LIMITS)
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 128, 0), (1, 2, 255)]


def test_a_sixteen_bit_colour_key_becomes_white():
    body = struct.pack(">H", 5000)
    crc = struct.pack(">I", zlib.crc32(b"tRNS" + body))
    extra = struct.pack(">I", 2) + b"tRNS" + body + crc
    row = b"\x00" + struct.pack(">2H", 5000, 0)
    decoded = decode_image(png(2, 1, depth=16, colour=0, rows=row, extra=extra), LIMITS)
    assert [decoded.getpixel((x, 0))[0] for x in (0, 1)] == [255, 0]


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_becomes_its_colour(file_format):
    image = PIL.Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red, green, blue = decode_image(encoded(image, file_format), LIMITS).getpixel((4, 4))
    assert red >= 250
    assert max(green, blue) <= 5


def test_one_bit_and_grey_images_become_rgb():
    for mode, white in (("1", 1), ("L", 255)):
        data = encoded(PIL.Image.new(mode, (3, 3), white), "PNG")
        assert decode_image(data, LIMITS).getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(file_format):
    first, second = quadrants(), PIL.Image.new("RGB", (24, 16), "black")
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = encoded(first, file_format, save_all=True, append_images=[second], **options)
    assert close(decode_image(data, LIMITS), first, tolerance=0)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_an_agreed_range_are_refused(mode):
    with pytest.raises(ImageFormatError, match="8-bit or 16-bit"):
        decode_image(encoded(PIL.Image.new(mode, (4, 4)), "TIFF"), LIMITS)


def test_empty_bytes_are_refused():
    with pytest.raises(ImageInvalidError, match="empty"):
        decode_image(b"", LIMITS)


@pytest.mark.parametrize("data", [b"not an image", b"\x00" * 100, "héllo".encode(), b"GIF", b"BM"])
def test_text_that_pretends_is_refused(data):
    with pytest.raises(ImageInvalidError, match="send one of PNG, JPEG") as caught:
        decode_image(data, LIMITS)
    assert caught.value.code is ErrorCode.IMAGE_INVALID


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%PDF-1.7", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\x00\x00\x00\x20ftypavif0000", "AVIF"),
        (b"\x00\x00\x00\x18ftypheic0000", "HEIC"),
    ],
)
def test_a_known_format_that_is_not_decoded_is_named(data, name):
    with pytest.raises(ImageFormatError, match=name) as caught:
        decode_image(data, LIMITS)
    assert caught.value.code is ErrorCode.IMAGE_FORMAT


def test_a_format_outside_the_limits_is_refused():
    with pytest.raises(ImageRefusedError):
        decode_image(encoded(quadrants(), "BMP"), DecodeLimits(formats=("PNG", "JPEG")))


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(file_format, kept):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    data = encoded(PIL.Image.fromarray(noise), file_format)
    with pytest.raises(ImageInvalidError) as caught:
        decode_image(data[: int(len(data) * kept)], LIMITS)
    assert caught.value.code is ErrorCode.IMAGE_INVALID


def test_a_file_with_too_many_bytes_is_refused():
    with pytest.raises(ImageTooLargeError, match="more than 10") as caught:
        decode_image(encoded(quadrants(), "PNG"), DecodeLimits(max_bytes=10))
    assert caught.value.code is ErrorCode.IMAGE_TOO_LARGE


@pytest.mark.parametrize("side", [1_001, 20_000, 60_000])
def test_a_bomb_is_refused_by_the_size_that_it_declares(side):
    bomb = png(side, side, depth=8, colour=2, rows=b"")
    with pytest.raises(ImageTooLargeError, match="pixels"):
        decode_image(bomb, LIMITS)


def test_a_line_of_pixels_is_refused_before_a_model_blows_it_up():
    with pytest.raises(ImageTooLargeError, match="factor of 100"):
        decode_image(encoded(PIL.Image.new("RGB", (101, 1)), "PNG"), LIMITS)
    assert decode_image(encoded(PIL.Image.new("RGB", (100, 1)), "PNG"), LIMITS).size == (100, 1)


def test_an_image_of_exactly_the_limit_passes():
    limits = DecodeLimits(max_pixels=24 * 16)
    assert decode_image(encoded(quadrants(), "PNG"), limits).size == (24, 16)
    with pytest.raises(ImageTooLargeError):
        decode_image(encoded(quadrants(), "PNG"), DecodeLimits(max_pixels=24 * 16 - 1))


SEEDS = [
    *(encoded(quadrants(), file_format) for file_format in FORMATS),
    encoded(quadrants(), "GIF", save_all=True, append_images=[quadrants()]),
    encoded(quadrants().convert("P"), "PNG", transparency=0),
    encoded(PIL.Image.fromarray(np.zeros((4, 4), dtype=np.uint16)), "TIFF"),
    encoded(quadrants(), "TIFF", compression="tiff_lzw"),
    encoded(quadrants(), "JPEG", progressive=True, exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00"),
]


@settings(max_examples=400, deadline=None)
@given(
    data=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=12),
    cut=st.integers(0, 10_000),
    tail=st.binary(max_size=20),
)
def test_corrupted_bytes_give_an_image_or_a_refusal_and_never_a_warning(data, edits, cut, tail):
    mutable = bytearray(data)
    for place, value in edits:
        mutable[place % len(mutable)] = value
    damaged = bytes(mutable[: max(len(mutable) - cut, 0) or len(mutable)]) + tail
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with contextlib.suppress(ImageRefusedError):
            image = decode_image(damaged, LIMITS)
            assert image.mode == "RGB"
            assert image.width * image.height <= LIMITS.max_pixels
    assert not seen


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_give_a_refusal(data):
    with pytest.raises(ImageRefusedError):
        decode_image(data, LIMITS)
