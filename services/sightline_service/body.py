"""Bodies in the caller's format: JSON, multipart or protobuf. Knows formats; knows no scores."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from sightline_proto import ErrorCode
from sightline_proto.endpoints import Request as Question
from sightline_proto.message import Message
from sightline_proto.validation import validation_detail
from sightline_proto.wire import CONTENT_TYPE_PROTOBUF, WireError, from_protobuf, to_protobuf
from sightline_service.errors import (
    InvalidFieldError,
    MalformedBodyError,
    UnsupportedMediaTypeError,
)
from sightline_service.forms import read_form
from sightline_service.preparing import Preparer

JSON, FORM, PROTOBUF = "application/json", "multipart/form-data", CONTENT_TYPE_PROTOBUF
MEDIA_TYPES = (JSON, FORM, PROTOBUF)

M = TypeVar("M", bound=Message)

_PARSES_FASTER = 4
"""Most of a body is one image's base64, which parsing passes over quickly."""


async def read_message(request: Request, cls: type[M], preparer: Preparer) -> M:
    """Reads the request's body as a `cls`; a large one away from the event loop.

    Raises:
        UnsupportedMediaTypeError: Content-Type or Content-Encoding is not understood.
        MalformedBodyError: the bytes are not what the Content-Type says.
        InvalidFieldError: a field is missing, unknown or has a wrong value.
    """
    parse = _parser(request, cls)
    body = await request.body()
    read = partial(_checked, parse, body)
    return await preparer.run("parse", read, size=len(body) // _PARSES_FASTER)


async def write_message(
    request: Request, message: Message, preparer: Preparer, *, asked: Question
) -> Response:
    """Writes the reply to `asked` in the format that the caller accepts: protobuf, or else JSON."""
    images = sum(len(item.image.value) for item in asked.items if item.image is not None)
    size = len(await request.body()) - images  # long texts have long replies
    if _wants_protobuf(request):
        data = await preparer.run("finish", lambda: to_protobuf(message), size=size)
        return Response(data, media_type=PROTOBUF)
    text = await preparer.run("finish", message.model_dump_json, size=size)
    return Response(text, media_type=JSON)


def _parser(request: Request, cls: type[M]) -> Callable[[bytes], M]:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise UnsupportedMediaTypeError("Content-Encoding", encoding, "the body uncompressed")
    content_type = request.headers.get("content-type", JSON)
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == JSON or media_type.endswith("+json"):
        return cls.model_validate_json
    if media_type == FORM:
        return lambda body: read_form(cls, content_type, body)
    if media_type == PROTOBUF:
        return lambda body: from_protobuf(cls, body)
    raise UnsupportedMediaTypeError("Content-Type", content_type, " or ".join(MEDIA_TYPES))


def _checked(parse: Callable[[bytes], M], body: bytes) -> M:
    try:
        return parse(body)
    except WireError as error:
        raise MalformedBodyError(str(error)) from None
    except ValidationError as error:
        detail = validation_detail(error)
        if detail.code == ErrorCode.MALFORMED_BODY:
            raise MalformedBodyError(detail.message.removeprefix("the body is ")) from None
        raise InvalidFieldError(detail.message, detail.param) from None


def _wants_protobuf(request: Request) -> bool:
    accepted = request.headers.get("accept", "*/*").lower()
    if PROTOBUF in accepted:
        return True
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return sent == PROTOBUF and JSON not in accepted
