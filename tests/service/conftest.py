"""What the tests of the running service share: the real app over ASGI, with the shipped fakes."""

import io
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import PIL.Image
import pytest

from sightline_service.app import create_app
from sightline_service.models.fake import FakeDetector, FakePerplexity, FakeSimilarity
from sightline_service.served import Models
from sightline_service.settings import Settings

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def png(seed: int = 0, size: tuple[int, int] = (24, 16)) -> bytes:
    """A PNG whose pixels depend on the seed."""
    colour = (seed * 37 % 256, seed // 7 % 256, 90)
    file = io.BytesIO()
    PIL.Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def image() -> Callable[..., bytes]:
    return png


def fakes(**changes: object) -> Models:
    models = {
        "similarity": FakeSimilarity(),
        "detector": FakeDetector(),
        "perplexity": FakePerplexity(),
    }
    return Models(**(models | changes))


@pytest.fixture
def models() -> Callable[..., Models]:
    return fakes


@pytest.fixture
def serve() -> Serve:
    """Runs the app with some settings and models; yields a client."""

    @asynccontextmanager
    async def running(models: Models | None = None, **settings: object):
        app = create_app(Settings(similarity="fake", **settings), models or fakes())
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://service") as client,
        ):
            client.service = app.state.service
            yield client

    return running
