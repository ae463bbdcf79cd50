"""Each request becomes a trace for those who export it. Knows headers and paths, not bodies."""

import time

from starlette.types import ASGIApp, Receive, Scope, Send

from sightline_service.logs import request_id
from sightline_service.middleware.access import endpoint_of
from sightline_service.middleware.headers import header
from sightline_service.middleware.status import StatusNote
from sightline_service.tracing import Exporter, FinishedTrace, Trace, TraceContext, tracing

_UNTRACED = frozenset({"health", "other"})


class TraceMiddleware:
    """Records the request below the span that `traceparent` names, unless that is not sampled.

    Args:
        app: what is traced.
        export: called with each trace once its request is answered; None traces nothing.
    """

    def __init__(self, app: ASGIApp, *, export: Exporter | None) -> None:
        self._app = app
        self._export = export

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app and exports what was recorded."""
        if self._export is None or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        endpoint = endpoint_of(scope["path"])
        context = TraceContext.read(header(scope, b"traceparent") or "")
        if endpoint in _UNTRACED or not context.sampled:
            await self._app(scope, receive, send)
            return
        noted = StatusNote(send)
        trace = Trace(context, f"{scope['method']} {endpoint}", time.monotonic())
        try:
            with tracing(trace):
                await self._app(scope, receive, noted)
        finally:
            attributes = {
                "http.request.method": scope["method"],
                "http.response.status_code": noted.status,
                "sightline.request_id": request_id.get() or "",
            }
            self._export(FinishedTrace(trace, time.monotonic(), attributes))
