"""One log line and one count per request. Knows paths and statuses; knows no bodies."""

import logging
import time

from starlette.types import ASGIApp, Receive, Scope, Send

from sightline_proto import ENDPOINTS
from sightline_service.metrics import Metrics
from sightline_service.middleware.status import StatusNote

log = logging.getLogger("sightline_service.access")

OUTCOME = "sightline.outcome"
"""Scope key under which an error's code is left for the count."""

_QUIET = frozenset({"/healthz", "/livez", "/readyz", "/health", "/metrics"})
_SCORING = {endpoint.path: endpoint.name for endpoint in ENDPOINTS}


class AccessMiddleware:
    """Logs and measures each request; probes are logged at level debug."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app and records how it went."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        noted = StatusNote(send)
        try:
            await self._app(scope, receive, noted)
        finally:
            self._record(scope, noted.status, time.monotonic() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        path = scope["path"]
        endpoint = endpoint_of(path)
        outcome = scope.get(OUTCOME, "ok" if 0 < status < 400 else "hung_up")
        self._metrics.observe_reply(endpoint, outcome, seconds)
        details = {
            "method": scope["method"],
            "endpoint": endpoint,
            "status": status,
            "outcome": outcome,
            "seconds": round(seconds, 4),
        }
        log.log(logging.DEBUG if path in _QUIET else logging.INFO, "request", extra=details)


def endpoint_of(path: str) -> str:
    """Returns the label of a path: a bounded set, whatever callers ask for."""
    short = path.removeprefix("/v1")
    if short in _SCORING:
        return _SCORING[short]
    if short.startswith("/images/"):
        return "images"
    return "health" if path in _QUIET else "other"
