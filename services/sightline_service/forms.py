"""Multipart forms, the curl way of sending one item. Knows form fields; knows no scores."""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, get_args

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from sightline_proto.message import Message
from sightline_service.errors import InvalidFieldError, MalformedBodyError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

M = TypeVar("M", bound=Message)

MAX_PARTS = 1024
_AS_TEXT = frozenset({"id", "image", "prompt", "text", "phrase", "profile", "combine"})
REPEATED = {"text": "texts", "phrase": "phrases", "language_score": "language_scores"}
"""Form fields that may be given several times, and the message fields that they fill."""


@dataclass(slots=True)
class _Part:
    name: str = ""
    is_file: bool = False
    data: bytearray = field(default_factory=bytearray)


class _PartCollector:
    """Gathers the parts that the parser reports; the body is already bounded."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.ended = False
        self._header = bytearray()
        self._value = bytearray()

    def on_part_begin(self) -> None:
        if len(self.parts) == MAX_PARTS:
            raise MalformedBodyError(f"the form has more than {MAX_PARTS} parts")
        self.parts.append(_Part())

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data += data[start:end]

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self.parts[-1].name = options.get(b"name", b"").decode("utf-8", "replace")
            self.parts[-1].is_file = b"filename" in options
        self._header.clear()
        self._value.clear()

    def on_end(self) -> None:
        self.ended = True


def read_form(cls: type[M], content_type: str, body: bytes) -> M:
    """Reads a form as a request with one item.

    `image` is a file or text; `text`, `phrase` and `language_score` may be given several times; any
    other field that is not text (`weight`, `token_offsets`, ..) is JSON.

    Raises:
        MalformedBodyError: the body is no multipart form.
        InvalidFieldError: a field that should be JSON is not, or one is given twice.
        pydantic.ValidationError: a field is unknown or has a wrong value.
    """
    request_fields = set(cls.model_fields) - {"items"}
    item_fields = _item_fields(cls)
    request: dict[str, object] = {}
    item: dict[str, object] = {}
    repeated: dict[str, list[object]] = {}
    for part in _parts(content_type, body):
        plural = REPEATED.get(part.name)
        if plural in item_fields and (part.name != "text" or "texts" in item_fields):
            repeated.setdefault(plural, []).append(_value(part))
        else:
            fields = request if part.name in request_fields else item
            if part.name in fields:
                raise InvalidFieldError(f"form field {part.name} is given twice", part.name)
            fields[part.name] = _value(part)
    for name in repeated.keys() & item.keys():
        raise InvalidFieldError(f"form field {name} is given twice, as one and as several", name)
    return cls.model_validate({**request, "items": [{**item, **repeated}]})


def _item_fields(cls: type[Message]) -> set[str]:
    item_class, _ = get_args(cls.model_fields["items"].annotation)
    return set(item_class.model_fields)


def _parts(content_type: str, body: bytes) -> list[_Part]:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedBodyError("the Content-Type of the form names no boundary")
    collector = _PartCollector()
    callbacks: MultipartCallbacks = {
        "on_part_begin": collector.on_part_begin,
        "on_part_data": collector.on_part_data,
        "on_header_field": collector.on_header_field,
        "on_header_value": collector.on_header_value,
        "on_header_end": collector.on_header_end,
        "on_end": collector.on_end,
    }
    try:
        parser = MultipartParser(boundary, callbacks)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise MalformedBodyError(f"it is no multipart form: {error}") from None
    if not collector.ended:
        raise MalformedBodyError("the multipart form is cut short")
    return collector.parts


def _text(part: _Part) -> str:
    try:
        return part.data.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedBodyError(f"form field {part.name!r} is not UTF-8") from None


def _value(part: _Part) -> object:
    if part.name == "image" and part.is_file:
        return bytes(part.data)
    text = _text(part)
    if part.name in _AS_TEXT:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidFieldError(
            f"form field {part.name} is no JSON: give {part.name}=VALUE as JSON would have it",
            part.name,
        ) from None
