"""Encoded image files become RGB images, or are refused. Knows PIL; knows no HTTP and no model."""

import io
import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import PIL.Image

from sightline_proto import ErrorCode

_MEGABYTE = 1024 * 1024
_ORIENTATION = 0x0112
_UPRIGHT_BY_ORIENTATION = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
_WITH_ALPHA = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
_SIXTEEN_BIT = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_OTHER_FORMATS = (
    (0, b"%PDF", "PDF"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "XML or SVG"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\x00\x00\x01\x00", "ICO"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
)


class ImageRefusedError(ValueError):
    """The image cannot be scored; `code` is the reason that the client is told."""

    code: ClassVar[ErrorCode]


class ImageInvalidError(ImageRefusedError):
    """The bytes are empty, broken, cut short, or no image at all."""

    code = ErrorCode.IMAGE_INVALID


class ImageTooLargeError(ImageRefusedError):
    """The file has too many bytes, or declares too many pixels."""

    code = ErrorCode.IMAGE_TOO_LARGE


class ImageFormatError(ImageRefusedError):
    """The file's format, or its kind of pixels, is not one that is decoded here."""

    code = ErrorCode.IMAGE_FORMAT


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """How large an image may be.

    Attributes:
        max_bytes: bytes of the encoded file.
        max_pixels: width times height as the file declares them.
        formats: PIL's names of the formats that are decoded.
        max_aspect: the longer side over the shorter one. A model's resize scales the shorter side
            up to its input size, so that a line of pixels would become a bomb after decoding.
    """

    max_bytes: int = 20 * _MEGABYTE
    max_pixels: int = 64_000_000
    formats: tuple[str, ...] = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
    max_aspect: float = 100.0


def decode_image(data: bytes, limits: DecodeLimits) -> PIL.Image.Image:
    """Decodes a file's first frame to RGB, upright by its EXIF orientation, alpha laid on white.

    16-bit grey is scaled to 8 bits. Colour profiles are not applied, as the models' own training
    pipelines do not apply them. Format and size are read, and checked, before any pixel is decoded.

    Raises:
        ImageInvalidError: empty, broken or cut short.
        ImageTooLargeError: beyond `max_bytes`, `max_pixels` or `max_aspect`.
        ImageFormatError: not one of `formats`, or 32-bit or LAB pixels.
    """
    if not data:
        raise ImageInvalidError("the image is empty: send the bytes of an image file")
    if len(data) > limits.max_bytes:
        raise ImageTooLargeError(
            f"the image file has {len(data)} bytes, more than {limits.max_bytes}: shrink it"
        )
    _silence_pil()
    image = _open(data, limits)
    _check_size(image.width, image.height, limits)
    try:
        image.load()
        return _rgb(_upright(image))
    except ImageRefusedError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything at all on hostile bytes
        raise ImageInvalidError(
            f"the {image.format} image is broken or cut short: {error}"
        ) from None


def _silence_pil() -> None:
    """Keeps PIL's remarks on odd files off stderr, and from becoming errors under `-W error`.

    `warnings.catch_warnings` would not do: it swaps process-wide state and decoding is threaded.
    """
    first = warnings.filters[0] if warnings.filters else None
    if first is None or first[0] != "ignore" or getattr(first[3], "pattern", "") != r"PIL\b":
        warnings.filterwarnings("ignore", module=r"PIL\b")


def _open(data: bytes, limits: DecodeLimits) -> PIL.Image.Image:
    """Reads the header only."""
    try:
        return PIL.Image.open(io.BytesIO(data), formats=limits.formats)
    except PIL.Image.DecompressionBombError:
        raise ImageTooLargeError(
            f"the image declares more than {limits.max_pixels} pixels: send a smaller one"
        ) from None
    except Exception:  # noqa: BLE001 - header parsers raise anything at all on hostile bytes
        raise _unidentified(data, limits) from None


def _unidentified(data: bytes, limits: DecodeLimits) -> ImageRefusedError:
    known = ", ".join(limits.formats)
    for start, magic, name in _OTHER_FORMATS:
        if data[start : start + len(magic)] == magic:
            return ImageFormatError(f"{name} is not decoded here: send one of {known}")
    return ImageInvalidError(f"the bytes are not a readable image: send one of {known}")


def _check_size(width: int, height: int, limits: DecodeLimits) -> None:
    if min(width, height) < 1:
        raise ImageInvalidError(f"the image is {width} x {height} pixels: it has no content")
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(
            f"the image is {width} x {height} = {width * height} pixels, more than "
            f"{limits.max_pixels}: send a smaller one"
        )
    if max(width, height) > limits.max_aspect * min(width, height):
        raise ImageTooLargeError(
            f"the image is {width} x {height} pixels, its sides differ by more than a factor of "
            f"{limits.max_aspect:g}: crop it"
        )


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    """Undoes the camera's rotation; PIL itself has already done so for TIFF while loading."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001 - broken metadata is no reason to refuse sound pixels
        return image
    method = _UPRIGHT_BY_ORIENTATION.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode in _SIXTEEN_BIT:
        return _from_sixteen_bit(image)
    if image.mode in {"I", "F", "LAB"}:
        raise ImageFormatError(
            f"pixels of kind {image.mode} have no agreed range: send 8-bit or 16-bit grey, or RGB"
        )
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = PIL.Image.new("RGBA", rgba.size, "white")
        return PIL.Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_sixteen_bit(image: PIL.Image.Image) -> PIL.Image.Image:
    """Scales 0..65535 to 0..255, which `Image.convert` would clip instead."""
    wide = np.asarray(image).astype(np.uint32)
    grey = ((wide + 128) // 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[wide == transparent] = 255
    return PIL.Image.fromarray(grey).convert("RGB")
