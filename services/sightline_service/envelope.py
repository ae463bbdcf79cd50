"""How errors look to the caller: the one table from exception to code. Knows no web framework."""

import logging

from sightline_proto import ERROR_KINDS, ErrorBody, ErrorCode, ErrorDetail, error_detail
from sightline_proto.image import ImageEncodingError, ImageUrlError
from sightline_service import errors
from sightline_service.images import ImageRefusedError
from sightline_service.models.protocols import OutOfDeviceMemoryError, TextRefusedError

log = logging.getLogger(__name__)

ERROR_CODES: dict[type[Exception], ErrorCode] = {
    errors.MalformedBodyError: ErrorCode.MALFORMED_BODY,
    errors.UnsupportedMediaTypeError: ErrorCode.UNSUPPORTED_MEDIA_TYPE,
    errors.UnauthorizedError: ErrorCode.UNAUTHORIZED,
    errors.ProfileNotFoundError: ErrorCode.PROFILE_NOT_FOUND,
    errors.PayloadTooLargeError: ErrorCode.PAYLOAD_TOO_LARGE,
    errors.InvalidFieldError: ErrorCode.INVALID_FIELD,
    errors.HashMismatchError: ErrorCode.HASH_MISMATCH,
    errors.OverloadedError: ErrorCode.OVERLOADED,
    errors.ModelNotServedError: ErrorCode.MODEL_NOT_SERVED,
    errors.NotReadyError: ErrorCode.NOT_READY,
    errors.DrainingError: ErrorCode.DRAINING,
    errors.DeadlineExceededError: ErrorCode.DEADLINE_EXCEEDED,
    errors.WorkerDiedError: ErrorCode.NOT_READY,
    errors.BatcherClosedError: ErrorCode.DRAINING,
    errors.ImageNotFoundError: ErrorCode.IMAGE_NOT_FOUND,
    errors.ImageUrlRefusedError: ErrorCode.IMAGE_URL,
    errors.ImageFetchError: ErrorCode.IMAGE_INVALID,
    errors.ImageRequiredError: ErrorCode.IMAGE_REQUIRED,
    errors.ImageNotTakenError: ErrorCode.INVALID_FIELD,
    errors.ResultCountError: ErrorCode.INTERNAL,
    errors.NonFiniteScoreError: ErrorCode.INTERNAL,
    ImageEncodingError: ErrorCode.IMAGE_INVALID,
    ImageUrlError: ErrorCode.IMAGE_URL,
    TextRefusedError: ErrorCode.TEXT_INVALID,
    OutOfDeviceMemoryError: ErrorCode.OUT_OF_MEMORY,
}

_IMAGE_ERRORS = (ImageRefusedError, ImageEncodingError, ImageUrlError)
_INTERNAL = "the service failed at this; its log says more under this request id"


def detail_of(error: Exception) -> ErrorDetail | None:
    """Returns what the caller is told of a foreseen error, or None for a bug."""
    code = code_of(error)
    return error_detail(code, str(error), param=_param_of(error)) if code else None


def code_of(error: Exception) -> ErrorCode | None:
    """Returns the code of a foreseen error, or None for a bug."""
    if isinstance(error, ImageRefusedError):
        return error.code
    found = (ERROR_CODES[parent] for parent in type(error).__mro__ if parent in ERROR_CODES)
    return next(found, None)


def item_error(error: Exception, index: int) -> ErrorDetail:
    """Returns what an item's reply says of `error`, which is logged if it was not foreseen."""
    detail = detail_of(error)
    if detail is None:
        log.error("item %d failed", index, exc_info=error)
        return error_detail(ErrorCode.INTERNAL, _INTERNAL, param=f"items[{index}]")
    path = f"items[{index}].{detail.param}" if detail.param else f"items[{index}]"
    return detail.model_copy(update={"param": path})


def request_error(error: Exception) -> tuple[int, dict[str, str], ErrorBody]:
    """Returns status, headers and body for a refused request; a bug is logged and not described."""
    detail = detail_of(error)
    if detail is None:
        log.error("request failed", exc_info=error)
        detail = error_detail(ErrorCode.INTERNAL, _INTERNAL)
    headers: dict[str, str] = {}
    if isinstance(error, errors.ServiceError) and error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if detail.code == ErrorCode.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return ERROR_KINDS[ErrorCode(detail.code)].status, headers, ErrorBody(error=detail)


def _param_of(error: Exception) -> str | None:
    if isinstance(error, _IMAGE_ERRORS):
        return "image"
    return error.param if isinstance(error, errors.ServiceError) else None
