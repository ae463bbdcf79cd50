"""Images by content: ask whether one is there, put it there. Knows HTTP; knows no pixels."""

import re
from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from sightline_service.errors import ImageNotFoundError, InvalidFieldError, PayloadTooLargeError
from sightline_service.routes import service_of

_SHA256 = re.compile(r"[0-9a-f]{64}")

router = APIRouter(prefix="/v1/images", tags=["images"])


@router.head("/{sha256}")
async def has_image(request: Request, sha256: str) -> Response:
    """Answers 200 if the image is stored, 404 if it has to be put."""
    if _checked(sha256) not in service_of(request).store:
        raise ImageNotFoundError(sha256)
    return Response()


@router.put("/{sha256}", status_code=201)
async def put_image(request: Request, sha256: str) -> Response:
    """Stores the body, an image file, under the SHA-256 of its bytes."""
    service = service_of(request)
    data = await request.body()
    limit = min(service.settings.max_image_bytes, service.settings.image_store_bytes)
    if len(data) > limit:
        raise PayloadTooLargeError(limit)
    work = partial(service.store.put, _checked(sha256), data)
    await service.preparer.run("parse", work)
    return JSONResponse({"sha256": sha256, "bytes": len(data)}, status_code=201)


def _checked(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise InvalidFieldError(
            f"sha256 is {sha256[:80]!r}: give 64 lower-case hex digits", "sha256"
        )
    return sha256
