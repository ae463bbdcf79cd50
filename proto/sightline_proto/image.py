"""An image inside a message: bytes, base64, a data URI or a hash. Knows encodings, not pixels."""

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

try:  # the service has it: ten times as fast, and without Python's lock
    import pybase64 as fast_base64
except ImportError:
    import base64 as fast_base64  # type: ignore[no-redef]  # the same functions

_SHA256 = re.compile(r"\s*sha256:([0-9a-f]{64})\s*", re.IGNORECASE)
_DATA_URI = re.compile(r"\s*data:[^,]{0,256};base64,", re.IGNORECASE)
_URL = re.compile(r"\s*[a-z][a-z0-9+.-]{1,15}://", re.IGNORECASE)
_BASE64 = TypeAdapter(bytes, config=ConfigDict(val_json_bytes="base64"))
_SMALL = 128 * 1024
"""Up to here, waiting for Python's lock, once given away, takes longer than the work."""
_HASHED_WITH_LOCK = 2047
"""From one byte more on, hashlib gives it away."""
_FORMS = "base64, data:image/..;base64,.. or sha256:<64 hex digits>"


class ImageEncodingError(ValueError):
    """The text is neither base64, nor a data URI with base64, nor `sha256:<hex>`."""


class ImageUrlError(ValueError):
    """The text is a URL, which says where an image is and holds none."""


def sha256_of(data: bytes) -> str:
    """Returns the lower-case hex SHA-256 of `data`: the name under which images are stored."""
    if len(data) > _SMALL:
        return hashlib.sha256(data).hexdigest()
    digest, view = hashlib.sha256(), memoryview(data)
    for start in range(0, len(data), _HASHED_WITH_LOCK):
        digest.update(view[start : start + _HASHED_WITH_LOCK])
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Image:
    """One image as sent: raw file bytes, or the text that a JSON body holds.

    A value that is no image (empty, not base64, a URL) is a valid `Image` all the same: `decode`
    refuses it, so that one bad image fails its own item and not the whole request.

    Args:
        value: file bytes (PNG, JPEG, WebP, ..), or text: base64, `data:image/png;base64,..`, or
            `sha256:<64 hex digits>` for an image that was uploaded before.
    """

    value: bytes | str

    @property
    def sha256(self) -> str | None:
        """The hash, in lower case, that this image refers to; None where it carries its bytes."""
        match = _SHA256.fullmatch(self.value) if isinstance(self.value, str) else None
        return match.group(1).lower() if match else None

    @property
    def url(self) -> str | None:
        """The URL that this image is found at; None where it is no URL."""
        if isinstance(self.value, str) and _URL.match(self.value):
            return self.value.strip()
        return None

    def decode(self) -> bytes:
        """Returns the file's bytes; white space inside base64 is skipped.

        Raises:
            ImageUrlError: the value is a URL.
            ImageEncodingError: the value is no base64, or only refers to an image by hash.
        """
        if isinstance(self.value, bytes):
            return self.value
        if self.sha256:
            raise ImageEncodingError(
                f"image is only referred to, as sha256:{self.sha256}: look it up by its hash"
            )
        if self.url:
            raise ImageUrlError(
                "image URLs are not fetched: send the bytes, or upload and refer by sha256"
            )
        prefix = _DATA_URI.match(self.value)
        return _from_base64(self.value[prefix.end() :] if prefix else self.value)

    def to_text(self) -> str:
        """Returns what a JSON body holds: base64 of the bytes, or the text unchanged."""
        if isinstance(self.value, bytes):
            return fast_base64.b64encode(self.value).decode("ascii")
        return self.value

    def __repr__(self) -> str:
        """Names the size alone: an image in a log or a traceback must not be megabytes long."""
        unit = "bytes" if isinstance(self.value, bytes) else "characters"
        return f"Image({len(self.value)} {unit})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - pydantic's own signature
        """Takes an `Image`, bytes or text; writes text."""
        return core_schema.no_info_plain_validator_function(
            _parse, serialization=core_schema.plain_serializer_function_ser_schema(cls.to_text)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describes the text that a JSON body holds."""
        return {"type": "string", "description": _FORMS}


def _parse(value: object) -> Image:
    if isinstance(value, Image):
        value = value.value
    if isinstance(value, bytes):
        return Image(value)
    if not isinstance(value, str):
        raise ValueError(f"must be a string: {_FORMS}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"is no Unicode text (a lone surrogate): send {_FORMS}") from None
    return Image(value)


def _from_base64(text: str) -> bytes:
    """Decodes base64 as `base64 FILE` prints it: lines of 76 characters."""
    try:
        if len(text) <= _SMALL:
            return _held_base64(text)
        return fast_base64.b64decode(text, validate=True)
    except ValueError:
        return _from_odd_base64(text)


def _held_base64(text: str) -> bytes:
    """Decodes without giving Python's lock away; pydantic alone would take more than base64."""
    if len(text) % 4 or "-" in text or "_" in text:
        raise ValueError("unpadded or URL-safe")
    return _BASE64.validate_strings(text)


def _from_odd_base64(text: str) -> bytes:
    """Skips white space, and forgives what the standard library forgives."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise ImageEncodingError(f"image is not valid {_FORMS}") from None
