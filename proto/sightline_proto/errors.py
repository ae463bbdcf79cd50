"""Every error that the service answers: code, status, type, retryable. Knows no HTTP library."""

from dataclasses import dataclass
from enum import StrEnum

from sightline_proto.message import Message


class ErrorCode(StrEnum):
    """The machine-readable reason; from IMAGE_INVALID on also found inside a reply, per item."""

    MALFORMED_BODY = "malformed_body"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    PROFILE_NOT_FOUND = "profile_not_found"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    INVALID_FIELD = "invalid_field"
    HASH_MISMATCH = "hash_mismatch"
    OVERLOADED = "overloaded"
    MODEL_NOT_SERVED = "model_not_served"
    NOT_READY = "not_ready"
    DRAINING = "draining"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    INTERNAL = "internal_error"
    IMAGE_INVALID = "image_invalid"
    IMAGE_TOO_LARGE = "image_too_large"
    IMAGE_FORMAT = "image_format_not_supported"
    IMAGE_URL = "image_url_not_allowed"
    IMAGE_NOT_FOUND = "image_not_found"
    IMAGE_REQUIRED = "image_required"
    TEXT_INVALID = "text_invalid"
    OUT_OF_MEMORY = "out_of_memory"


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """What follows from a code: the HTTP status, the error's type, and whether a retry may help."""

    status: int
    type: str
    retryable: bool = False


_INVALID, _SERVER, _BUSY = "invalid_request_error", "server_error", "overloaded_error"

ERROR_KINDS: dict[ErrorCode, ErrorKind] = {
    ErrorCode.MALFORMED_BODY: ErrorKind(400, _INVALID),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: ErrorKind(400, _INVALID),
    ErrorCode.UNAUTHORIZED: ErrorKind(401, "authentication_error"),
    ErrorCode.NOT_FOUND: ErrorKind(404, "not_found_error"),
    ErrorCode.METHOD_NOT_ALLOWED: ErrorKind(405, _INVALID),
    ErrorCode.PROFILE_NOT_FOUND: ErrorKind(404, "not_found_error"),
    ErrorCode.PAYLOAD_TOO_LARGE: ErrorKind(413, _INVALID),
    ErrorCode.INVALID_FIELD: ErrorKind(422, _INVALID),
    ErrorCode.HASH_MISMATCH: ErrorKind(422, _INVALID),
    ErrorCode.OVERLOADED: ErrorKind(429, _BUSY, retryable=True),
    ErrorCode.MODEL_NOT_SERVED: ErrorKind(503, _SERVER),
    ErrorCode.NOT_READY: ErrorKind(503, _BUSY, retryable=True),
    ErrorCode.DRAINING: ErrorKind(503, _BUSY, retryable=True),
    ErrorCode.DEADLINE_EXCEEDED: ErrorKind(504, _SERVER),
    ErrorCode.INTERNAL: ErrorKind(500, _SERVER),
    ErrorCode.IMAGE_INVALID: ErrorKind(422, _INVALID),
    ErrorCode.IMAGE_TOO_LARGE: ErrorKind(413, _INVALID),
    ErrorCode.IMAGE_FORMAT: ErrorKind(422, _INVALID),
    ErrorCode.IMAGE_URL: ErrorKind(422, _INVALID),
    ErrorCode.IMAGE_NOT_FOUND: ErrorKind(404, "not_found_error"),
    ErrorCode.IMAGE_REQUIRED: ErrorKind(422, _INVALID),
    ErrorCode.TEXT_INVALID: ErrorKind(422, _INVALID),
    ErrorCode.OUT_OF_MEMORY: ErrorKind(503, _BUSY, retryable=True),
}


class ErrorDetail(Message):
    """What went wrong: a sentence with the mend, the class of error, the field, and the code."""

    message: str
    type: str
    param: str | None = None
    code: str


class ErrorBody(Message):
    """The body of every reply whose status is not 2xx."""

    error: ErrorDetail


def error_detail(code: ErrorCode, message: str, *, param: str | None = None) -> ErrorDetail:
    """Builds the detail for `code`, with the type that belongs to it."""
    return ErrorDetail(message=message, type=ERROR_KINDS[code].type, param=param, code=code.value)
