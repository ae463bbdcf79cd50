"""Every exception of this library, as one tree. Knows no HTTP library.

SightlineError
├── ConfigurationError (a ValueError)     a setting is missing or impossible
├── ImageError (a ValueError)             an image cannot be read or encoded on this side
└── ServiceError                          asking the service did not give what was asked for
    ├── UnreachableError                  no connection, or it broke, on every attempt
    ├── DeadlineError (a TimeoutError)    `timeout_s` passed
    ├── ReplyError                        the answer does not fit the request, or is no answer
    ├── ItemError                         this item could not be scored; its neighbours could
    └── StatusError                       the service refused the whole request
        ├── AuthenticationError           401, 403: the API key is missing or wrong
        ├── InvalidRequestError           any other 4xx: the request itself must change
        ├── OverloadedError               429: still busy after every retry
        └── UnavailableError              5xx: not ready, not served, or broken
"""

from dataclasses import dataclass


class SightlineError(Exception):
    """Anything that this library raises on purpose."""


class ConfigurationError(SightlineError, ValueError):
    """A setting is missing or impossible; the message names it, its value and the mend."""


class ImageError(SightlineError, ValueError):
    """An image cannot be read or encoded on this side; the message names the path or the type."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known of a failed call: HTTP status, error code and field, id, attempts, URL."""

    status: int | None = None
    code: str | None = None
    param: str | None = None
    request_id: str | None = None
    attempts: int = 0
    url: str | None = None

    def __str__(self) -> str:
        """Returns what is known, as `name value` pairs."""
        facts = {
            "status": self.status,
            "code": self.code,
            "param": self.param,
            "request id": self.request_id,
            "attempts": self.attempts or None,
            "url": self.url,
        }
        return ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)


class ServiceError(SightlineError):
    """Asking the service did not give what was asked for.

    Attributes:
        message: what happened and the mend, without the circumstances that `str()` adds.
        status: HTTP status, None where no answer came.
        code: the service's error code (`sightline_proto.ErrorCode`), None where it gave none.
        param: the field at fault, such as `items[3].texts`.
        request_id: the `X-Request-ID` under which the service logged the call.
        attempts: HTTP requests made for this call, uploads and retries included.
        url: the last base URL that was asked.
    """

    def __init__(self, message: str, circumstances: Circumstances | None = None) -> None:
        super().__init__(message, circumstances)
        known = circumstances or Circumstances()
        self.message = message
        self.status = known.status
        self.code = known.code
        self.param = known.param
        self.request_id = known.request_id
        self.attempts = known.attempts
        self.url = known.url
        self._facts = str(known)

    def __str__(self) -> str:
        """Returns the message and the circumstances."""
        return f"{self.message} [{self._facts}]" if self._facts else self.message


class UnreachableError(ServiceError):
    """No connection could be made, or it broke, on every attempt."""


class DeadlineError(ServiceError, TimeoutError):
    """`timeout_s` passed before an answer came, or the next retry would begin after it."""


class ReplyError(ServiceError):
    """The answer does not fit the request: a wrong count, order, id or number, or no message."""


class ItemError(ServiceError):
    """The service scored the request, but not this item; its neighbours are not affected."""


class StatusError(ServiceError):
    """The service refused the whole request."""


class AuthenticationError(StatusError):
    """401 or 403: the API key is missing or wrong."""


class InvalidRequestError(StatusError):
    """A 4xx other than 401, 403 and 429: the request itself must change."""


class OverloadedError(StatusError):
    """429: the service is still busy after every retry."""


class UnavailableError(StatusError):
    """5xx: the service is not ready, does not serve this model, or is broken."""


def status_error(message: str, circumstances: Circumstances) -> StatusError:
    """Returns the error class that belongs to `circumstances.status`."""
    status = circumstances.status or 0
    if status in (401, 403):
        return AuthenticationError(message, circumstances)
    if status == 429:
        return OverloadedError(message, circumstances)
    if status >= 500:
        return UnavailableError(message, circumstances)
    return InvalidRequestError(message, circumstances)
