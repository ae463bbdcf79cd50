"""The page at /ui. Knows one static file; the page itself talks to the endpoints."""

from functools import cache
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)
"""The page may run its own code and ask this service, and nothing else."""


@router.get("/ui")
async def playground() -> HTMLResponse:
    """Answers with the playground."""
    return HTMLResponse(_page(), headers={"content-security-policy": _POLICY})


@cache
def _page() -> str:
    return (files("sightline_service") / "playground.html").read_text(encoding="utf-8")
