"""When to ask again, and after how long. Pure: knows statuses and headers, never sleeps."""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from sightline_proto import ERROR_KINDS

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 8.0

_CODE_MAY_PASS: dict[str | None, bool] = {
    code.value: kind.retryable for code, kind in ERROR_KINDS.items()
}
_RETRYABLE_STATUSES = frozenset({408, 429, 502, 503, 504})
_PASSING_FAILURES = (
    httpx.NetworkError,
    httpx.TimeoutException,
    httpx.RemoteProtocolError,
    httpx.ProxyError,
)


def retry_delay(
    attempt: int,
    failure: int | Exception,
    headers: Mapping[str, str] | None = None,
    *,
    code: str | None = None,
    draw: Callable[[], float],
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> float | None:
    """Returns the seconds to wait before the next attempt, or None where asking again cannot help.

    Every request of this client may be repeated, POST included, because scoring is pure: the same
    question has the same answer and changes nothing, and an upload is named by its content.

    The wait is drawn evenly from 0 to FIRST_DELAY_S * 2**attempt, at most LONGEST_DELAY_S (full
    jitter), and comes on top of `Retry-After` where the service gave one.

    Args:
        attempt: 0 after the first failure, 1 after the second, ..
        failure: the HTTP status, or the exception that came instead of an answer.
        headers: the answer's headers; `Retry-After` is read as seconds or as an HTTP date.
        code: the service's error code; where it is known it decides instead of the status, so
            that a 503 for a model that is not served is final.
        draw: draws the jitter from [0, 1).
        now: the time of day, against which a date in `Retry-After` is held.
    """
    if not _may_pass(failure, code):
        return None
    jitter = draw() * min(math.ldexp(FIRST_DELAY_S, min(attempt, 16)), LONGEST_DELAY_S)
    return jitter + _retry_after((headers or {}).get("Retry-After"), now)


def _may_pass(failure: int | Exception, code: str | None) -> bool:
    if isinstance(failure, Exception):
        return isinstance(failure, _PASSING_FAILURES)
    if code in _CODE_MAY_PASS:
        return _CODE_MAY_PASS[code]
    return failure in _RETRYABLE_STATUSES


def _retry_after(value: str | None, now: Callable[[], datetime]) -> float:
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        seconds = _seconds_until(value, now)
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _seconds_until(date: str, now: Callable[[], datetime]) -> float:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - now()).total_seconds()
