from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sightline import ImageError, to_image
from sightline.images import SentImages
from sightline_proto import Image


def pixels_of(image: Image) -> np.ndarray:
    with PIL.Image.open(BytesIO(image.decode())) as opened:
        return np.asarray(opened)


def test_a_file_travels_unchanged(tmp_path: Path):
    path = tmp_path / "any.jpg"
    path.write_bytes(b"these bytes")
    assert to_image(path).value == b"these bytes"
    assert to_image(str(path)).value == b"these bytes"


def test_bytes_and_images_are_taken_as_they_are():
    image = Image("sha256:" + "0" * 64)
    assert to_image(image) is image
    assert to_image(b"x").value == b"x"
    assert to_image(bytearray(b"x")).value == b"x"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16"])
def test_a_pil_image_is_encoded_without_loss(mode):
    noise = np.random.default_rng(0).integers(0, 256, size=(5, 7, 4), dtype=np.uint8)
    source = PIL.Image.fromarray(noise, "RGBA").convert("RGBA")
    image = (
        source.convert("L").convert("I").point(lambda v: v * 200).convert("I;16")
        if (mode == "I;16")
        else source.convert(mode)
    )
    assert np.array_equal(pixels_of(to_image(image)), np.asarray(image))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "P", "I", "F", "RGBa", "PA", "I;16B"])
def test_every_other_mode_becomes_a_readable_png(mode):
    with PIL.Image.open(BytesIO(to_image(PIL.Image.new(mode, (3, 2))).decode())) as opened:
        opened.load()
        assert (opened.format, opened.size) == ("PNG", (3, 2))


def test_sixteen_bits_survive_whatever_their_byte_order():
    image = PIL.Image.new("I;16B", (1, 1), 40_000)
    assert pixels_of(to_image(image)).tolist() == [[40_000]]


def test_the_orientation_of_a_photograph_is_kept():
    photograph = PIL.Image.new("RGB", (4, 2))
    exif = photograph.getexif()
    exif[0x0112] = 6
    file = BytesIO()
    photograph.save(file, "JPEG", exif=exif)
    with PIL.Image.open(file) as opened, PIL.Image.open(BytesIO(to_image(opened).decode())) as sent:
        assert sent.getexif()[0x0112] == 6


def test_what_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(ImageError, match=r"gone\.png.*No such file"):
        to_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="cannot be read"):
        to_image(tmp_path)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match=r"empty\.png.*empty file"):
        to_image(tmp_path / "empty.png")
    with pytest.raises(ImageError, match="empty bytes"):
        to_image(b"")
    with pytest.raises(ImageError, match="cannot be read"):
        to_image("nul\0byte")
    with pytest.raises(ImageError, match=r"ndarray: give a path, bytes, a PIL image"):
        to_image(np.zeros((2, 2)))  # type: ignore[arg-type]
    with pytest.raises(ImageError, match=r"size \(0, 0\) cannot be encoded"):
        to_image(PIL.Image.new("RGB", (0, 0)))


def test_what_was_sent_is_remembered_per_service_and_within_bounds():
    sent = SentImages(capacity=2)
    sent.add("u", "1")
    assert sent.knows("u", "1")
    assert not sent.knows("v", "1")
    sent.add("u", "2")
    assert sent.knows("u", "1")  # used last, so 2 is the one to go
    sent.add("u", "3")
    assert [sent.knows("u", name) for name in "123"] == [True, False, True]
    sent.forget("u", "1")
    assert not sent.knows("u", "1")
    sent.distrust("u")
    assert not sent.knows("u", "3")
