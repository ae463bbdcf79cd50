"""Makes an image that can travel out of what callers hold. Knows PIL and files; knows no HTTP."""

import os
import threading
from collections import OrderedDict
from io import BytesIO
from pathlib import Path

import PIL.Image

from sightline.errors import ImageError
from sightline_proto import Image

ImageLike = PIL.Image.Image | str | os.PathLike[str] | bytes | bytearray | Image

_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_NEAREST = {"I": "I;16", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}
_FAST_COMPRESSION = 1


def to_image(source: ImageLike) -> Image:
    """Returns the image in the form in which a request carries it.

    Args:
        source: a path (its bytes are sent unchanged), the bytes of an image file, a PIL image
            (sent as PNG, without loss), or an `Image`, which is taken as it is. A PIL image is
            encoded on every call: keep the returned `Image` where one image is scored often.

    Raises:
        ImageError: the file cannot be read, is empty, or the value is of another type.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, PIL.Image.Image):
        return Image(_png(source))
    if isinstance(source, str | os.PathLike):
        return Image(_read(Path(source)))
    if not isinstance(source, bytes | bytearray):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may not be typed
        raise ImageError(
            f"image is a {type(source).__name__}: give a path, bytes, a PIL image or an Image"
        )
    if not source:
        raise ImageError("image is empty bytes: give the bytes of an image file")
    return Image(bytes(source))


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"image {str(path)!r} cannot be read: {reason}") from error
    if not data:
        raise ImageError(f"image {str(path)!r} is an empty file")
    return data


def _png(image: PIL.Image.Image) -> bytes:
    buffer = BytesIO()
    try:
        orientation = image.getexif().tobytes()
        _plain(image).save(buffer, format="PNG", compress_level=_FAST_COMPRESSION, exif=orientation)
    except (OSError, ValueError) as error:
        raise ImageError(
            f"PIL image of mode {image.mode} and size {image.size} cannot be encoded: {error}"
        ) from error
    return buffer.getvalue()


def _plain(image: PIL.Image.Image) -> PIL.Image.Image:
    """Returns the image in a mode that PNG has, with all its bits where there is one."""
    if image.mode in _PNG_MODES:
        return image
    if image.mode.startswith("I;16"):
        image = image.convert("I")
    return image.convert(_NEAREST.get(image.mode, "RGB"))


class SentImages:
    """Remembers which images a service has seen, by URL and hash. Bounded; safe for threads.

    Args:
        capacity: pairs kept; the least recently used is forgotten, which costs one more upload.
    """

    def __init__(self, capacity: int = 65_536) -> None:
        self._capacity = capacity
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._forgetful: set[str] = set()
        self._lock = threading.Lock()

    def knows(self, url: str, sha256: str) -> bool:
        """Says whether the service at `url` was sent this image."""
        with self._lock:
            known = url not in self._forgetful and (url, sha256) in self._seen
            if known:
                self._seen.move_to_end((url, sha256))
            return known

    def add(self, url: str, sha256: str) -> None:
        """Notes that the service at `url` has the image."""
        with self._lock:
            self._seen[url, sha256] = None
            self._seen.move_to_end((url, sha256))
            if len(self._seen) > self._capacity:
                self._seen.popitem(last=False)

    def forget(self, url: str, sha256: str) -> None:
        """Notes that the service at `url` has it no more."""
        with self._lock:
            self._seen.pop((url, sha256), None)

    def distrust(self, url: str) -> None:
        """Notes that uploads to `url` do not help: behind it are replicas that share no store."""
        with self._lock:
            self._forgetful.add(url)
