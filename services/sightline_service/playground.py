"""The page at /ui. Knows one static file; the page itself talks to the endpoints."""

from functools import cache
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)


@router.get("/ui")
async def playground() -> HTMLResponse:
    """Answers with the playground."""
    return HTMLResponse(_page())


@cache
def _page() -> str:
    return (files("sightline_service") / "playground.html").read_text(encoding="utf-8")
