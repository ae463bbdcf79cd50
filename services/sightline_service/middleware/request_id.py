"""Gives each request an id that its reply and its logs carry. Knows headers only."""

import re
from itertools import count
from secrets import token_hex

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightline_service.logs import request_id
from sightline_service.middleware.headers import header

_PROCESS, _NUMBERS = token_hex(8), count()
_ACCEPTABLE = re.compile(r"[\x21-\x7e]{1,128}")


class RequestIdMiddleware:
    """Echoes the caller's X-Request-ID, or makes one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app with the id in its context."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = header(scope, b"x-request-id") or ""
        identity = given if _ACCEPTABLE.fullmatch(given) else _new()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", identity.encode())]
            await send(message)

        token = request_id.set(identity)
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            request_id.reset(token)


def _new() -> str:
    """As unlikely to come twice as a random id, without asking the system for each."""
    return f"{_PROCESS}{next(_NUMBERS):016x}"
