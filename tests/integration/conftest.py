"""The real app with the embedded models: loaded once, served per test with chosen settings."""

import io
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import PIL.Image
import pytest

from sightline_core.fisao import Profile
from sightline_service.app import create_app
from sightline_service.models.load import load_detector, load_perplexity, load_similarity
from sightline_service.served import DEFAULT_PROFILE, Models
from sightline_service.settings import Settings
from sightline_world import weights

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def world() -> Models:
    return Models(
        similarity=load_similarity("world", device="cpu", dtype="float32"),
        detector=load_detector("world", device="cpu", dtype="float32"),
        perplexity=load_perplexity("world", device="cpu", dtype="float32"),
        profiles={DEFAULT_PROFILE: Profile.from_json(weights.profile_path().read_text())},
    )


@pytest.fixture
def serve(world: Models) -> Serve:
    """Runs the app; yields a client. No cache unless asked for, so that every score is computed."""

    @asynccontextmanager
    async def running(**settings: object):
        app = create_app(Settings(**({"embedding_cache_bytes": 0} | settings)), world)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://service", timeout=120) as http,
        ):
            yield http

    return running


@pytest.fixture(scope="session")
def png() -> Callable[[PIL.Image.Image], bytes]:
    def encode(image: PIL.Image.Image) -> bytes:
        file = io.BytesIO()
        image.save(file, "PNG")
        return file.getvalue()

    return encode
