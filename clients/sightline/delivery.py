"""One HTTP request until it is answered: retries, failover, deadline. Knows httpx, does no I/O.

A flow is a generator that yields what is to be done, an `httpx.Request` to send or a `Pause` to
make, and is sent what came of it. Both clients drive the same flows.
"""

import logging
import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TypeVar

import httpx

from sightline import bodies
from sightline.config import CONNECT_TIMEOUT_S, USER_AGENT, ClientConfig
from sightline.errors import (
    Circumstances,
    DeadlineError,
    ReplyError,
    ServiceError,
    UnreachableError,
    status_error,
)
from sightline.replicas import BREAK_S, Replicas
from sightline.retry import retry_delay
from sightline_proto import ErrorCode
from sightline_proto.message import Message

T = TypeVar("T")
M = TypeVar("M", bound=Message)

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait that the client is to make."""

    seconds: float


Step = httpx.Request | Pause
Outcome = httpx.Response | httpx.TransportError | None
Flow = Generator[Step, Outcome, T]


@dataclass(frozen=True, slots=True)
class Letter:
    """What to send: `body` is built for the URL that is asked, which may know some images."""

    method: str
    path: str
    body: Callable[[str], bytes] = lambda _: b""
    content_type: str | None = None


@dataclass(slots=True)
class Call:
    """One question's progress: its id, until when it may take, the tries so far, the last URL.

    `hints` are headers by which a router in front of several replicas may choose one.
    """

    request_id: str
    deadline: float
    attempts: int = 0
    url: str = ""
    hints: Mapping[str, str] = field(default_factory=dict[str, str])

    def circumstances(self) -> Circumstances:
        """What an error says of this call, as far as no answer is concerned."""
        return Circumstances(
            request_id=self.request_id, attempts=self.attempts, url=self.url or None
        )


class Delivery:
    """Brings requests to one of the services and answers back. Safe for threads.

    Every retry is logged as a warning, so that a run that waits for its service says so.

    Args:
        config: the client's settings.
        clock: seconds that never go back.
        draw: draws the jitter from [0, 1).
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._clock = clock
        self._draw = draw
        self._replicas = Replicas(config.base_urls)

    def begin(self, request_id: str, hints: Mapping[str, str] | None = None) -> Call:
        """Starts the clock of a call."""
        return Call(request_id, self._clock() + self._config.timeout_s, hints=hints or {})

    def deliver(self, call: Call, letter: Letter, *, at: str | None = None) -> Flow[httpx.Response]:
        """Sends until an answer of 2xx comes; begins at the URL `at` where one is given.

        Raises:
            ServiceError: no attempt gave one, or the next would come after the deadline.
        """
        for attempt in count():
            call.url = at or self._replicas.pick(self._clock())
            at = None
            outcome = yield self.request(call, letter)
            if isinstance(outcome, httpx.Response) and outcome.is_success:
                self._replicas.recovered(call.url)
                return outcome
            error = self._error(call, outcome)
            delay = self._delay(attempt, outcome, error)
            if delay is None:
                raise error
            relieved = self._replicas.rest(call.url, self._clock(), _rest(error, delay))
            if attempt == self._config.retries:
                raise error
            _LOG.warning("%s; attempt %d of %d", error, attempt + 2, self._config.retries + 1)
            if not relieved:
                yield self.pause(call, delay, error)
        raise AssertionError("count() has no end")

    def request(self, call: Call, letter: Letter) -> httpx.Request:
        """Builds the next attempt, which gets all the time that is left.

        Raises:
            DeadlineError: none is left.
        """
        left = call.deadline - self._clock()
        if left <= 0:
            raise self._late(call, None)
        call.attempts += 1
        accepted = bodies.CONTENT_TYPES[self._config.wire]
        headers = {
            "Accept": accepted if accepted == bodies.JSON else f"{accepted}, {bodies.JSON};q=0.5",
            "User-Agent": USER_AGENT,
            "X-Request-ID": call.request_id,
            "X-Request-Timeout": f"{max(left, 0.001):.3f}",
            **call.hints,
        }
        if self._config.api_key is not None:
            headers["Authorization"] = f"Bearer {self._config.api_key}"
        if letter.content_type is not None:
            headers["Content-Type"] = letter.content_type
        timeout = httpx.Timeout(left, connect=min(left, CONNECT_TIMEOUT_S))
        return httpx.Request(
            letter.method,
            call.url + letter.path,
            headers=headers,
            content=letter.body(call.url) or None,
            extensions={"timeout": timeout.as_dict()},
        )

    def pause(self, call: Call, seconds: float, error: ServiceError | None = None) -> Pause:
        """Returns the wait before the next attempt.

        Raises:
            DeadlineError: the wait would outlast the call; caused by `error`.
        """
        if self._clock() + seconds >= call.deadline:
            raise self._late(call, error) from error
        return Pause(seconds)

    def backoff(self, attempt: int, code: str) -> float | None:
        """Seconds before an item that failed with `code` is asked about again, None for never."""
        return retry_delay(attempt, 200, code=code, draw=self._draw)

    def read(self, call: Call, kind: type[M], response: httpx.Response) -> M:
        """Reads an answer.

        Raises:
            ReplyError: it is no such message, or a number in it is not finite.
        """
        try:
            return bodies.decode(kind, response)
        except bodies.UnreadableBodyError as error:
            raise self.misfit(
                call, f"the answer is no {kind.__name__} ({error}): is this a Sightline service?"
            ) from error

    def misfit(self, call: Call, message: str) -> ReplyError:
        """Returns the error for an answer that cannot be used."""
        return ReplyError(message, replace(call.circumstances(), status=200))

    def _delay(self, attempt: int, outcome: Outcome, error: ServiceError) -> float | None:
        if isinstance(outcome, httpx.Response):
            return retry_delay(
                attempt, outcome.status_code, outcome.headers, code=error.code, draw=self._draw
            )
        assert outcome is not None, "a request was yielded, so an answer or a failure must come"
        return retry_delay(attempt, outcome, draw=self._draw)

    def _error(self, call: Call, outcome: Outcome) -> ServiceError:
        if isinstance(outcome, httpx.Response):
            return _refusal(call, outcome, self._config.origin)
        reason = str(outcome) or type(outcome).__name__
        error: ServiceError = UnreachableError(
            f"{call.url} (from {self._config.origin}) cannot be reached: {reason}",
            call.circumstances(),
        )
        if isinstance(outcome, httpx.TimeoutException) and not isinstance(
            outcome, httpx.ConnectTimeout
        ):
            error = self._late(call, None)
        error.__cause__ = outcome
        return error

    def _late(self, call: Call, last: ServiceError | None) -> DeadlineError:
        known = call.circumstances()
        if last is not None:
            known = replace(known, status=last.status, code=last.code, param=last.param)
        why = f"; the last failure was: {last.message}" if last is not None else ""
        return DeadlineError(
            f"no answer within timeout_s = {self._config.timeout_s:g} seconds{why}", known
        )


def _rest(error: ServiceError, delay: float) -> float:
    busy = error.status is not None and error.status < 500
    return delay if busy else max(delay, BREAK_S)


def _refusal(call: Call, response: httpx.Response, origin: str) -> ServiceError:
    detail = bodies.error_of(response)
    known = replace(call.circumstances(), status=response.status_code)
    if detail is None:
        return status_error(_unexplained(response, origin), known)
    known = replace(known, code=detail.code, param=detail.param)
    if detail.code == ErrorCode.DEADLINE_EXCEEDED:
        return DeadlineError(detail.message, known)
    return status_error(detail.message, known)


def _unexplained(response: httpx.Response, origin: str) -> str:
    said = (
        f"{response.request.url} answered {response.status_code} {response.reason_phrase}".strip()
    )
    if response.is_redirect:
        return f"{said}: it points to {response.headers.get('Location')}, use that as {origin}"
    if response.status_code in (404, 405):
        return f"{said}: is this a Sightline service?"
    return said
