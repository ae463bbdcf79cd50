"""No request outlives its deadline or its caller. Knows time and disconnects; knows no work."""

import asyncio
import math

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightline_service.errors import DeadlineExceededError, InvalidFieldError

HEADER = "x-request-timeout"


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
        work = asyncio.ensure_future(self._app(scope, line.receive, line.send))
        hang_up = asyncio.ensure_future(line.hung_up())
        tasks = {work, hang_up}
        try:
            done, _ = await asyncio.wait(
                tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not done and work.cancelled():
            raise DeadlineExceededError(timeout_s)
        if hang_up not in done:
            work.result()


def _asked_for(scope: Scope) -> float:
    given = Headers(scope=scope).get(HEADER)
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
    """The connection, watched for its caller hanging up once the body is read."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._body_read = asyncio.Event()
        self._answered = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._body_read.set()
            await _forever()
        if not message.get("more_body", False):
            self._body_read.set()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._answered = True
        await self._send(message)

    async def hung_up(self) -> None:
        """Returns when the caller has left before the answer; else never."""
        await self._body_read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._answered:
            await _forever()


async def _forever() -> None:
    """Waits to be cancelled."""
    await asyncio.Event().wait()
