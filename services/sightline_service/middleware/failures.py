"""Every refusal and every bug leaves as the error envelope. Knows exceptions; knows no routes."""

import logging

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightline_service.envelope import request_error
from sightline_service.errors import OverloadedError
from sightline_service.metrics import Metrics
from sightline_service.middleware.access import OUTCOME

log = logging.getLogger(__name__)


class FailuresMiddleware:
    """Turns exceptions from everything inside it into replies."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_noting_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_noting_start)
        except Exception as error:
            if started:
                log.error("the reply broke off", exc_info=error)
                raise
            await self._reply(error, scope, receive, send)

    async def _reply(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        status, headers, body = request_error(error)
        scope[OUTCOME] = body.error.code
        if isinstance(error, OverloadedError):
            self._metrics.observe_rejection(error.reason)
        content = b"" if scope["method"] == "HEAD" else body.model_dump_json().encode()
        response = Response(content, status, headers, media_type="application/json")
        await response(scope, receive, send)
