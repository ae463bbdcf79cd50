"""What is served here, and within which bounds. Knows the service; scores nothing."""

from fastapi import APIRouter, Request

from sightline_proto import ServedModel, ServiceInfo, ServiceLimits, limits
from sightline_service.images import DecodeLimits
from sightline_service.routes import service_of
from sightline_service.settings import Settings
from sightline_service.version import VERSION

router = APIRouter(prefix="/v1", tags=["catalogue"])


@router.get("/info")
async def info(request: Request) -> ServiceInfo:
    """Lists models, profiles, image formats and every limit."""
    service = service_of(request)
    models = service.engine.models
    return ServiceInfo(
        version=VERSION,
        models=tuple(
            ServedModel(role=role, model=model.info, endpoints=models.endpoints_of(role))
            for role, model in models.by_role()
        ),
        profiles=tuple(sorted(models.profiles)),
        image_formats=DecodeLimits(1, 1).formats,
        limits=_limits(service.settings),
    )


@router.get("/models")
async def models(request: Request) -> dict[str, object]:
    """Lists the models as OpenAI's API does, with their role, endpoints and provenance."""
    served = service_of(request).engine.models
    return {
        "object": "list",
        "data": [
            {"object": "model", "owned_by": "sightline", "role": role}
            | {"endpoints": served.endpoints_of(role), **model.info.model_dump()}
            for role, model in served.by_role()
        ],
    }


def _limits(settings: Settings) -> ServiceLimits:
    return ServiceLimits(
        items=limits.ITEMS,
        texts=limits.TEXTS,
        text_chars=limits.TEXT_CHARS,
        token_offsets=limits.TOKENS,
        body_bytes=settings.max_body_bytes,
        image_bytes=settings.max_image_bytes,
        image_pixels=settings.max_image_pixels,
        max_boxes=limits.MAX_BOXES,
        concurrent_requests=settings.max_concurrent_requests,
        queued_items=settings.max_queue_items,
        request_timeout_s=settings.request_timeout_s,
        image_store_bytes=settings.image_store_bytes,
        embedding_cache_bytes=settings.embedding_cache_bytes,
    )
