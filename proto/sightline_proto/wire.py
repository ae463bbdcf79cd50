"""Messages to protobuf bytes and back. Knows the rules of `descriptors`; knows no HTTP.

Image bytes travel as they are, never through base64 or JSON. What is read passes the same checks as
a JSON body does; of a list longer than the message takes, only as much is read as it takes to see
that, because a few bytes of protobuf become many of Python.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final, Protocol, TypeVar

from google.protobuf import message as protobuf
from google.protobuf import message_factory
from google.protobuf.unknown_fields import UnknownFieldSet

from sightline_proto import limits
from sightline_proto.descriptors import (
    FIELDS,
    IMAGE,
    IMAGE_DATA,
    IMAGE_TEXT,
    LIST_VALUES,
    OFFSETS_BOUNDS,
    PACKAGE,
    POOL,
    PROTO_FILE,
    Element,
    Field,
    Shape,
)
from sightline_proto.image import Image
from sightline_proto.message import Message

CONTENT_TYPE_PROTOBUF: Final = "application/x-protobuf"

M = TypeVar("M", bound=Message)


class _Repeated(Protocol):
    """A repeated field of a protobuf message, of scalars (`extend`) or of messages (`add`)."""

    def extend(self, values: Iterable[object], /) -> None: ...
    def add(self) -> protobuf.Message: ...


class WireError(ValueError):
    """The bytes are not the protobuf form of the message that was expected."""


_TWINS: Final = {
    cls: message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{cls.__name__}"))
    for cls in FIELDS
}
_BY_NUMBER: Final = {
    cls: {field.number: field for field in fields} for cls, fields in FIELDS.items()
}
_PLAIN: Final = {
    cls: {f.number: f.name for f in fields if f.shape is Shape.ONE and f.element.is_scalar}
    for cls, fields in FIELDS.items()
}
"""Names of the single scalars by number: most fields of a reply are read without a rule."""


def _absent(field: Field) -> bool:
    return field.info.is_required() and (field.nullable or field.shape is Shape.MANY)


_WHEN_ABSENT: Final[dict[type[Message], dict[str, object]]] = {
    cls: {field.name: None if field.nullable else () for field in fields if _absent(field)}
    for cls, fields in FIELDS.items()
}


def to_protobuf(message: Message) -> bytes:
    """Writes a message of the contract as protobuf, `sightline.v1.<class name>`.

    Raises:
        TypeError: the class is no message of the contract.
    """
    if type(message) not in FIELDS:
        raise TypeError(f"{type(message).__name__} is no message of the contract")
    target = _TWINS[type(message)]()
    _fill(message, type(message), target)
    return target.SerializeToString()


def from_protobuf(cls: type[M], data: bytes) -> M:
    """Reads what `to_protobuf` wrote; a field given twice counts as protobuf has it, the last wins.

    Raises:
        WireError: the bytes are malformed or end inside a field; or, with its name, there is a
            field that `cls` has not or that has another type. Bytes that end between two fields
            are a shorter message: only the transport's length tells.
        pydantic.ValidationError: a value is missing or refused; its location names the field.
        TypeError: `cls` is no message of the contract.
    """
    if cls not in FIELDS:
        raise TypeError(f"{cls.__name__} is no message of the contract")
    source = _TWINS[cls]()
    try:
        source.ParseFromString(data)
    except (protobuf.DecodeError, UnicodeDecodeError):  # the latter from the pure-Python runtime
        raise WireError(
            f"the body of {len(data)} bytes is not a protobuf {PACKAGE}.{cls.__name__}: it is cut "
            f"short, malformed, or another message"
        ) from None
    return cls.model_validate(_read(cls, source, ""))


def _fill(message: Message, cls: type[Message], target: protobuf.Message) -> None:
    plain = _PLAIN[cls]
    for field in FIELDS[cls]:
        value = getattr(message, field.name)
        if value is None:
            continue
        if field.number in plain:
            setattr(target, field.name, value)
            continue
        part = getattr(target, field.name)
        if field.shape is Shape.ONE:
            _fill_part(field.element, value, part)
        elif field.shape is Shape.MANY:
            _fill_many(field.element, value, part)
        else:
            part.SetInParent()  # an empty list is there all the same
            _fill_many(field.element, value, getattr(part, LIST_VALUES))


def _fill_many(element: Element, values: Iterable[object], target: _Repeated) -> None:
    if element.is_scalar:
        target.extend(values)
        return
    for part in values:
        _fill_part(element, part, target.add())


def _fill_part(element: Element, value: object, target: protobuf.Message) -> None:
    if element.message is not None:
        assert isinstance(value, Message)
        target.SetInParent()
        _fill(value, element.message, target)
    elif element.type_name == IMAGE:
        assert isinstance(value, Image)
        setattr(target, IMAGE_DATA if isinstance(value.value, bytes) else IMAGE_TEXT, value.value)
    else:
        assert isinstance(value, tuple)
        getattr(target, OFFSETS_BOUNDS).extend(chain.from_iterable(value))


def _read(cls: type[Message], source: protobuf.Message, path: str) -> dict[str, object]:
    """Returns the fields as pydantic takes them; `path` is where `source` lies, for errors."""
    _refuse_unknown(source, path)
    fields, plain = dict(_WHEN_ABSENT[cls]), _PLAIN[cls]
    for descriptor, value in source.ListFields():
        number = descriptor.number
        if number in plain:
            fields[plain[number]] = value
            continue
        field = _BY_NUMBER[cls][number]
        inner = f"{path}.{field.name}" if path else field.name
        if field.shape is Shape.ONE:
            fields[field.name] = _read_part(field.element, value, inner)
        elif field.shape is Shape.MANY:
            fields[field.name] = _read_many(field, value, inner)
        else:
            _refuse_unknown(value, inner)
            fields[field.name] = _read_many(field, getattr(value, LIST_VALUES), inner)
    return fields


def _read_many(field: Field, values: Sequence[object], path: str) -> list[object]:
    if field.most is not None:
        values = values[: field.most + 1]
    if field.element.is_scalar:
        return list(values)
    return [_read_part(field.element, part, f"{path}[{i}]") for i, part in enumerate(values)]


def _read_part(element: Element, source: object, path: str) -> object:
    assert isinstance(source, protobuf.Message)
    if element.message is not None:
        return _read(element.message, source, path)
    _refuse_unknown(source, path)
    if element.type_name == IMAGE:
        for _, value in source.ListFields():
            return Image(value)
        raise WireError(f"{path} is an empty Image: set data (file bytes) or text")
    bounds = getattr(source, OFFSETS_BOUNDS)
    if len(bounds) % 2:
        raise WireError(f"{path} has {len(bounds)} bounds: give start and end of each token")
    each = iter(bounds[: 2 * limits.TOKENS + 2])
    return list(zip(each, each, strict=True))


def _refuse_unknown(source: protobuf.Message, path: str) -> None:
    unknown = UnknownFieldSet(source)
    if len(unknown):
        name, number = source.DESCRIPTOR.name, unknown[0].field_number
        known = source.DESCRIPTOR.fields_by_number.get(number)
        fault = (
            f"field {known.name} ({number}) has the wire type of another type"
            if known
            else f"{PACKAGE}.{name} has no field {number}"
        )
        raise WireError(f"{path or 'the body'}: {fault}, see {PROTO_FILE}")
