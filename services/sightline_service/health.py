"""Whether the process lives and whether it can score; its metrics. Knows the service's state."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from sightline_service.envelope import request_error
from sightline_service.errors import DrainingError, NotReadyError
from sightline_service.routes import service_of
from sightline_service.service import Service

router = APIRouter(tags=["health"])


@router.get("/healthz")
@router.get("/livez")
async def healthz(request: Request) -> Response:
    """Answers 200 unless the process has to be restarted: a model has been failing for long."""
    service = service_of(request)
    if not service.needs_restart:
        return JSONResponse({"status": "ok"})
    status, headers, body = request_error(NotReadyError(service.phase))
    return JSONResponse(_state(service) | body.model_dump(), status, headers)


@router.get("/readyz")
@router.get("/health")
async def readyz(request: Request) -> Response:
    """Answers 200 if models are loaded, their workers live, and nothing is being shut down."""
    service = service_of(request)
    if service.phase == "ready":
        return JSONResponse(_state(service))
    error = DrainingError() if service.phase == "draining" else NotReadyError(service.phase)
    status, headers, body = request_error(error)
    return JSONResponse(_state(service) | body.model_dump(), status, headers)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Answers with all meters, for Prometheus."""
    return Response(service_of(request).metrics.render(), media_type=CONTENT_TYPE_LATEST)


def _state(service: Service) -> dict[str, object]:
    return {"status": service.phase, "models": service.model_states()}
