"""The pages for people: /ui and /docs. Knows two static files, which ask this service alone."""

from functools import cache
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)
"""A page may run its own code and ask this service, and nothing else."""


@router.get("/ui")
async def playground() -> HTMLResponse:
    """Answers with the playground."""
    return _page("playground.html")


@router.get("/docs")
async def reference() -> HTMLResponse:
    """Answers with the API reference, which unlike FastAPI's own needs no network."""
    return _page("reference.html")


def _page(name: str) -> HTMLResponse:
    return HTMLResponse(_text(name), headers={"content-security-policy": _POLICY})


@cache
def _text(name: str) -> str:
    return (files("sightline_service") / name).read_text(encoding="utf-8")
