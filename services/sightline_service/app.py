"""Puts the app together: routes, middleware, error replies, lifespan. Knows parts; does no work."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from sightline_proto import ErrorBody, ErrorCode, error_detail
from sightline_proto.validation import field_path
from sightline_service import catalogue, health, pages, uploads
from sightline_service.errors import InvalidFieldError
from sightline_service.middleware.access import OUTCOME, AccessMiddleware
from sightline_service.middleware.auth import AuthMiddleware
from sightline_service.middleware.deadline import DeadlineMiddleware
from sightline_service.middleware.door import DoorMiddleware
from sightline_service.middleware.failures import FailuresMiddleware
from sightline_service.middleware.request_id import RequestIdMiddleware
from sightline_service.middleware.trace import TraceMiddleware
from sightline_service.openapi import document
from sightline_service.routes import DirectRoutes, scoring_router
from sightline_service.served import Models
from sightline_service.service import Loader, Service
from sightline_service.settings import Settings
from sightline_service.tracing import Exporter
from sightline_service.version import VERSION

PROBES = ("/healthz", "/livez", "/readyz", "/health")


class RewardApp(FastAPI):
    """A FastAPI app whose document covers all body formats and errors."""

    def openapi(self) -> dict[str, Any]:
        """Returns the OpenAPI document."""
        self.openapi_schema = self.openapi_schema or document(self)
        return self.openapi_schema


def create_app(
    settings: Settings, models: Models | Loader, *, export: Exporter | None = None
) -> FastAPI:
    """Returns the reward service as an ASGI app.

    Args:
        settings: the bounds of this app.
        models: what to serve; a loader brings it up in the background once the app has started,
            and until then scoring answers 503 `not_ready`.
        export: called with the trace of each request; None traces nothing.
    """
    service = Service(settings, models)
    app = RewardApp(
        title="Sightline reward service",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        middleware=_middleware(service, export),
        exception_handlers={
            HTTPException: _http_error,
            RequestValidationError: _validation_error,
        },
    )
    app.state.service = service
    app.include_router(scoring_router())
    for router in (uploads.router, catalogue.router, health.router, pages.router):
        app.include_router(router)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    service: Service = app.state.service
    service.start()
    yield
    await service.close()


def _middleware(service: Service, export: Exporter | None) -> Sequence[Middleware]:
    """Outermost first."""
    settings = service.settings
    open_paths = (*PROBES, "/ui", *(("/metrics",) if settings.metrics_open else ()))
    return (
        Middleware(RequestIdMiddleware),
        Middleware(TraceMiddleware, export=export),
        Middleware(AccessMiddleware, metrics=service.metrics),
        Middleware(FailuresMiddleware, metrics=service.metrics),
        Middleware(AuthMiddleware, keys=service.keys, open_paths=open_paths),
        Middleware(
            DoorMiddleware,
            admission=service.admission,
            max_body_bytes=settings.max_body_bytes,
        ),
        Middleware(DeadlineMiddleware, timeout_s=settings.request_timeout_s),
        Middleware(DirectRoutes),
    )


async def _http_error(request: Request, error: HTTPException) -> JSONResponse:
    """What the router itself refuses: unknown paths and methods."""
    codes = {404: ErrorCode.NOT_FOUND, 405: ErrorCode.METHOD_NOT_ALLOWED}
    code = codes.get(error.status_code, ErrorCode.MALFORMED_BODY)
    request.scope[OUTCOME] = code.value
    message = f"{request.method} {request.url.path[:200]}: {error.detail}; see /docs"
    body = ErrorBody(error=error_detail(code, message))
    return JSONResponse(body.model_dump(), error.status_code, error.headers)


async def _validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    fault: dict[str, Any] = error.errors()[0]
    path = field_path(fault["loc"])
    raise InvalidFieldError(f"{path}: {fault['msg']}", path)
