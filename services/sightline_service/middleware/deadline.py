"""No request outlives its deadline or its caller. Knows time and disconnects; knows no work."""

import asyncio
import math

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightline_service.errors import DeadlineExceededError, InvalidFieldError
from sightline_service.middleware.headers import header

_LOOK_AFTER_S = 0.1
"""Whoever is answered sooner never costs the task that watches the line."""


class DeadlineMiddleware:
    """Cancels a request's work when its time is over, or when its caller hung up.

    Args:
        app: what may take so long.
        timeout_s: the longest time, which a caller may shorten by the header X-Request-Timeout.
    """

    def __init__(self, app: ASGIApp, *, timeout_s: float) -> None:
        self._app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app for as long as it may.

        Raises:
            DeadlineExceededError: the time was over first.
            InvalidFieldError: X-Request-Timeout is no positive number.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        timeout_s = min(self._timeout_s, _asked_for(scope))
        line = _Line(receive, send)
        deadline = asyncio.timeout(timeout_s)
        try:
            async with deadline:
                await self._app(scope, line.receive, line.send)
        except TimeoutError:
            if deadline.expired():
                raise DeadlineExceededError(timeout_s) from None
            raise
        except asyncio.CancelledError:
            if not line.was_left:
                raise
        finally:
            line.close()


def _asked_for(scope: Scope) -> float:
    given = header(scope, b"x-request-timeout")
    if given is None:
        return math.inf
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise InvalidFieldError(
            f"X-Request-Timeout is {given[:40]!r}: give a positive number of seconds",
            "X-Request-Timeout",
        )
    return seconds


class _Line:
    """The connection, watched for its caller hanging up once the body is read.

    Attributes:
        was_left: the caller left before the answer, and the running task was cancelled for it.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self.was_left = False
        self._receive = receive
        self._send = send
        self._task = asyncio.current_task()
        self._look: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None
        self._answered = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._leave()
            await asyncio.Event().wait()  # until the cancellation arrives
        if not message.get("more_body", False) and self._look is None:
            loop = asyncio.get_running_loop()
            self._look = loop.call_later(_LOOK_AFTER_S, self._begin_to_watch)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._answered = True
        await self._send(message)

    def close(self) -> None:
        """Ends the watch."""
        if self._look is not None:
            self._look.cancel()
        if self._watch is not None:
            self._watch.cancel()

    def _begin_to_watch(self) -> None:
        self._watch = asyncio.create_task(self._watch_for_hang_up())

    async def _watch_for_hang_up(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._answered:
            self._leave()

    def _leave(self) -> None:
        assert self._task is not None
        self.was_left = True
        self._task.cancel()
