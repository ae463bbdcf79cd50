"""An image inside a message: bytes, base64 text, a data URI or a hash. Knows encodings, not pixels."""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")
_DATA_URI = re.compile(r"data:[^,]{0,256};base64,", re.IGNORECASE)
_URL = re.compile(r"[a-z][a-z0-9+.-]{1,15}://", re.IGNORECASE)


class ImageEncodingError(ValueError):
    """The text is neither base64, nor a data URI with base64, nor `sha256:<hex>`."""


class ImageUrlError(ValueError):
    """The text is a URL, which the service does not fetch."""


def sha256_of(data: bytes) -> str:
    """Returns the lower-case hex SHA-256 of `data`: the name under which images are stored."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Image:
    """An encoded image as it travels: raw file bytes, or the text that a JSON body holds.

    Args:
        value: file bytes (PNG, JPEG, WebP, ..), or text: base64, `data:image/png;base64,..`, or
            `sha256:<64 hex digits>` for an image that was uploaded before.
    """

    value: bytes | str

    @property
    def sha256(self) -> str | None:
        """The hash that this image refers to, or None where it carries its bytes."""
        match = _SHA256.fullmatch(self.value) if isinstance(self.value, str) else None
        return match.group(1) if match else None

    def decode(self) -> bytes:
        """Returns the file's bytes.

        Raises:
            ImageUrlError: the value is a URL.
            ImageEncodingError: the value is no base64, or only refers to an image by hash.
        """
        if isinstance(self.value, bytes):
            return self.value
        if _URL.match(self.value):
            raise ImageUrlError(
                "image URLs are not fetched: send the bytes, or upload and refer by sha256"
            )
        prefix = _DATA_URI.match(self.value)
        text = self.value[prefix.end() :] if prefix else self.value
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise ImageEncodingError(
                "image is not valid base64, data URI or sha256:<64 hex digits>"
            ) from None

    def to_text(self) -> str:
        """Returns what a JSON body holds: base64 of the bytes, or the text unchanged."""
        if isinstance(self.value, bytes):
            return base64.b64encode(self.value).decode("ascii")
        return self.value

    def __repr__(self) -> str:
        return (
            f"Image({len(self.value)} {'bytes' if isinstance(self.value, bytes) else 'characters'})"
        )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - pydantic's own signature
        def parse(value: object) -> Image:
            if isinstance(value, Image):
                return value
            if isinstance(value, bytes | str) and value:
                return Image(value)
            raise ValueError("must be a non-empty string: base64, data URI or sha256:<hex>")

        return core_schema.no_info_plain_validator_function(
            parse,
            serialization=core_schema.plain_serializer_function_ser_schema(cls.to_text),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {
            "type": "string",
            "minLength": 1,
            "description": "base64, data:image/...;base64,... or sha256:<64 hex digits>",
        }
