"""Refuses at the door what would not fit, before reading it. Knows sizes; parses nothing."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightline_service.admission import Admission, BodyBudget
from sightline_service.errors import PayloadTooLargeError
from sightline_service.middleware.headers import header

_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class DoorMiddleware:
    """Holds a place and bytes for each request with a body, whether it tells its length or not.

    Args:
        app: what lies behind the door.
        admission: the bounds.
        max_body_bytes: of one request.
    """

    def __init__(self, app: ASGIApp, *, admission: Admission, max_body_bytes: int) -> None:
        self._app = app
        self._admission = admission
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app if there is room.

        Raises:
            PayloadTooLargeError: the body is longer than one may be.
            OverloadedError: no place, or no bytes, are left.
            DrainingError: the service takes nothing new.
        """
        if scope["type"] != "http" or scope["method"] not in _WITH_BODY:
            await self._app(scope, receive, send)
            return
        declared = int(header(scope, b"content-length") or 0)
        if declared > self._max_body_bytes:
            raise PayloadTooLargeError(self._max_body_bytes)
        with self._admission.request() as budget:
            budget.reserve(declared)
            meter = _Meter(receive, budget, declared, self._max_body_bytes)
            await self._app(scope, meter.receive, send)


class _Meter:
    """Counts a body as it arrives: a chunked one tells no length beforehand."""

    def __init__(self, receive: Receive, budget: BodyBudget, reserved: int, limit: int) -> None:
        self._receive = receive
        self._budget = budget
        self._reserved = reserved
        self._limit = limit
        self._seen = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._limit:
            raise PayloadTooLargeError(self._limit)
        if self._seen > self._reserved:
            self._budget.reserve(self._seen - self._reserved)
            self._reserved = self._seen
        return message
