"""Bodies of requests and answers: messages to bytes and back. Knows both wires, no retries."""

from typing import TypeVar

import httpx
from pydantic import ValidationError

from sightline.config import Wire
from sightline_proto import ErrorBody, ErrorDetail, validation_detail
from sightline_proto.message import Message
from sightline_proto.wire import CONTENT_TYPE_PROTOBUF, WireError, from_protobuf, to_protobuf

JSON = "application/json"
OCTETS = "application/octet-stream"
CONTENT_TYPES: dict[Wire, str] = {"json": JSON, "protobuf": CONTENT_TYPE_PROTOBUF}

M = TypeVar("M", bound=Message)


class UnreadableBodyError(ValueError):
    """The bytes are not the message that they should be."""


def encode(message: Message, wire: Wire) -> bytes:
    """Returns the body that carries `message`."""
    if wire == "protobuf":
        return to_protobuf(message)
    return message.model_dump_json().encode()


def decode(kind: type[M], response: httpx.Response) -> M:
    """Reads the message of type `kind` from an answer, on the wire that its content type names.

    Raises:
        UnreadableBodyError: the body is something else, or a number in it is not finite.
    """
    try:
        if response.headers.get("Content-Type", "").startswith(CONTENT_TYPE_PROTOBUF):
            return from_protobuf(kind, response.content)
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise UnreadableBodyError(validation_detail(error).message) from error
    except WireError as error:
        raise UnreadableBodyError(str(error)) from error


def error_of(response: httpx.Response) -> ErrorDetail | None:
    """Reads the error from a refusal, or None where something else (a proxy) wrote the body."""
    try:
        return decode(ErrorBody, response).error
    except UnreadableBodyError:
        return None
