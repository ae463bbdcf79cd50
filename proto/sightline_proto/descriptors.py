"""The protobuf twins of the messages, derived at import. Knows pydantic's fields; moves no values.

The rules, from which a message's wire format follows:

- A message has the name of its class. A field's number is its place among the fields in order of
  declaration, from 1; a parent's fields come before its children's. New fields go last.
- Numbers are double, counts int64, flags bool; texts, literals and enums are string.
- A single field is always `optional`: absent means null, or the default, or, where the field is
  required, an error; never zero.
- A list that is required is `repeated`. A list that may be null is a message `..List` with the
  list as its field `values`, so that null and empty differ.
- An image is the message `Image`, either `data` (file bytes) or `text` (what JSON would hold).
- The offsets of one text are the message `TokenOffsets`: start, end, start, end, .. in `bounds`.
"""

import types
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Annotated, Final, Literal, Union, get_args, get_origin

from annotated_types import MaxLen
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto
from pydantic.fields import FieldInfo

from sightline_proto.endpoints import ENDPOINTS
from sightline_proto.errors import ErrorBody
from sightline_proto.image import Image
from sightline_proto.info import ServiceInfo
from sightline_proto.message import Message

PACKAGE: Final = "sightline.v1"
PROTO_FILE: Final = "sightline/v1/reward.proto"
IMAGE: Final = "Image"
IMAGE_DATA: Final = "data"
IMAGE_TEXT: Final = "text"
OFFSETS: Final = "TokenOffsets"
OFFSETS_BOUNDS: Final = "bounds"
LIST_VALUES: Final = "values"

_SCALARS: Final = {
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
}
_SCALAR_OF: Final[dict[object, str]] = {float: "double", int: "int64", bool: "bool", str: "string"}


class Shape(Enum):
    """How many values a field holds, and whether none at all differs from an empty list."""

    ONE = auto()
    MANY = auto()
    NULLABLE_MANY = auto()


@dataclass(frozen=True, slots=True)
class Element:
    """One value: its protobuf type, the message class behind it, and the only words allowed."""

    type_name: str
    message: type[Message] | None = None
    choices: tuple[str, ...] = ()

    @property
    def is_scalar(self) -> bool:
        """Whether protobuf holds the value itself rather than a message."""
        return self.type_name in _SCALARS


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message, as both sides see it."""

    name: str
    number: int
    shape: Shape
    element: Element
    info: FieldInfo
    nullable: bool
    most: int | None = None
    """The longest list that the message takes, where it says so."""

    @property
    def type_name(self) -> str:
        """The protobuf type as the .proto file writes it."""
        if self.shape is Shape.NULLABLE_MANY:
            return list_name(self.element)
        return self.element.type_name


def list_name(element: Element) -> str:
    """Names the message that holds a nullable list: `DoubleList`, `TokenRewardResultList`."""
    return f"{element.type_name[0].upper()}{element.type_name[1:]}List"


def _bare(annotation: object) -> object:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _without_none(annotation: object) -> tuple[object, bool]:
    """Splits `X | None` into X and True."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    rest = [option for option in get_args(annotation) if option is not types.NoneType]
    if len(rest) != 1:
        raise TypeError(f"{annotation} is a union: the wire format has no rule for it")
    return rest[0], True


def _longest(constraints: Iterable[object]) -> int | None:
    lengths = [each.max_length for each in constraints if isinstance(each, MaxLen)]
    return min(lengths, default=None)


def _element(annotation: object) -> Element:
    annotation = _bare(annotation)
    if annotation is Image:
        return Element(IMAGE)
    if annotation in _SCALAR_OF:
        return Element(_SCALAR_OF[annotation])
    if get_origin(annotation) is Literal:
        return Element("string", choices=get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Message):
        return Element(annotation.__name__, annotation)
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return Element("string", choices=tuple(annotation))
    if get_origin(annotation) is tuple and _is_pair_of_counts(get_args(annotation)[0]):
        return Element(OFFSETS)
    raise TypeError(f"{annotation} has no rule in the wire format")


def _is_pair_of_counts(annotation: object) -> bool:
    return [_bare(part) for part in get_args(_bare(annotation))] == [int, int]


def _field(name: str, number: int, info: FieldInfo) -> Field:
    constrained, nullable = _without_none(info.annotation)
    annotation = _bare(constrained)
    if get_origin(annotation) is not tuple:
        return Field(name, number, Shape.ONE, _element(annotation), info, nullable)
    bare_list = info.is_required() and not nullable
    return Field(
        name,
        number,
        Shape.MANY if bare_list else Shape.NULLABLE_MANY,
        _element(get_args(annotation)[0]),
        info,
        nullable,
        most=_longest([*info.metadata, *getattr(constrained, "__metadata__", ())]),
    )


def _fields_from(root: type[Message], found: dict[type[Message], tuple[Field, ...]]) -> None:
    """Adds `root` and every message that it holds to `found`, the whole before its parts."""
    if root in found:
        return
    fields = tuple(
        _field(name, number, info)
        for number, (name, info) in enumerate(root.model_fields.items(), start=1)
    )
    found[root] = fields
    for field in fields:
        if field.element.message is not None:
            _fields_from(field.element.message, found)


def _all_fields() -> dict[type[Message], tuple[Field, ...]]:
    found: dict[type[Message], tuple[Field, ...]] = {}
    for endpoint in ENDPOINTS:
        _fields_from(endpoint.request, found)
        _fields_from(endpoint.reply, found)
    _fields_from(ErrorBody, found)
    _fields_from(ServiceInfo, found)
    return found


FIELDS: Final = _all_fields()
"""Every message of the contract with its fields, each whole before its parts."""


def _add_field(
    message: DescriptorProto, name: str, number: int, type_name: str, *, repeated: bool = False
) -> FieldDescriptorProto:
    label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if type_name in _SCALARS:
        field.type = _SCALARS[type_name]
    else:
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{type_name}"
    return field


def _add_message(file: descriptor_pb2.FileDescriptorProto, cls: type[Message]) -> None:
    message = file.message_type.add(name=cls.__name__)
    for field in FIELDS[cls]:
        repeated = field.shape is Shape.MANY
        added = _add_field(message, field.name, field.number, field.type_name, repeated=repeated)
        if not repeated:  # proto3 spells `optional` as a oneof of one
            added.proto3_optional = True
            added.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{field.name}")


def _add_special_messages(file: descriptor_pb2.FileDescriptorProto) -> None:
    image = file.message_type.add(name=IMAGE)
    image.oneof_decl.add(name="value")
    _add_field(image, IMAGE_DATA, 1, "bytes").oneof_index = 0
    _add_field(image, IMAGE_TEXT, 2, "string").oneof_index = 0
    offsets = file.message_type.add(name=OFFSETS)
    _add_field(offsets, OFFSETS_BOUNDS, 1, "int64", repeated=True)
    lists = {
        list_name(field.element): field.element.type_name
        for fields in FIELDS.values()
        for field in fields
        if field.shape is Shape.NULLABLE_MANY
    }
    for name, type_name in sorted(lists.items()):
        _add_field(file.message_type.add(name=name), LIST_VALUES, 1, type_name, repeated=True)


def _file_descriptor() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=PROTO_FILE, package=PACKAGE, syntax="proto3")
    for cls in FIELDS:
        _add_message(file, cls)
    _add_special_messages(file)
    return file


FILE_DESCRIPTOR: Final = _file_descriptor()
"""The whole .proto file, as a descriptor."""
POOL: Final = descriptor_pool.DescriptorPool()
"""A pool of its own: other users of protobuf in the process never meet these names."""
POOL.Add(FILE_DESCRIPTOR)
