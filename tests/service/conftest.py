"""What the service's tests share: the real app over ASGI with the shipped fakes, and a device."""

import asyncio
import base64
import io
import threading
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import httpx
import PIL.Image
import pytest

from sightline_service.app import create_app
from sightline_service.batching import DynamicBatcher, Lane
from sightline_service.models.fake import FakeDetector, FakePerplexity, FakeSimilarity
from sightline_service.served import Models
from sightline_service.settings import Settings
from sightline_service.waiting import BatchLimits

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
Batching = Callable[..., AbstractAsyncContextManager[tuple[DynamicBatcher, Lane]]]

LIMITS = BatchLimits(max_items=4, max_cost=100, max_wait_s=0.05)


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


@pytest.fixture
def request_of() -> Callable[..., dict]:
    """Asks about one image and some texts."""

    def asking(data: bytes, *texts: str) -> dict:
        image = base64.b64encode(data).decode()
        return {"items": [{"image": image, "texts": list(texts) or ["a"]}]}

    return asking


@pytest.fixture
def error_of() -> Callable[[httpx.Response], tuple[int, str]]:
    """Status and code of an answer that has to be an error in its envelope."""

    def refused(response: httpx.Response) -> tuple[int, str]:
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert "Traceback" not in response.text
        return response.status_code, error["code"]

    return refused


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Waits for a condition, though not for ever."""

    async def waiting(condition: Callable[[], bool]) -> None:
        for _ in range(1000):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it never came to that")

    return waiting


@dataclass(frozen=True)
class Number:
    value: int
    cost: int = 1
    group: Hashable = None


class Device:
    """A model that doubles numbers, and can be held up, fail, or run out of memory."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = threading.Event()
        self.free.set()
        self.busy = threading.Event()
        self.poison: int | None = None
        self.memory: int | None = None

    def forward(self, items: Sequence[Number]) -> list[int]:
        values = [item.value for item in items]
        self.batches.append(values)
        self.busy.set()
        assert self.free.wait(5)
        if self.memory is not None and len(values) > self.memory:
            raise MemoryError(len(values))
        if self.poison in values:
            raise ValueError(f"poison among {len(values)}")
        return [2 * value for value in values]

    async def hold(self, lane: Lane) -> asyncio.Task:
        """Occupies the device with one item, so that what follows has to wait."""
        self.free.clear()
        self.busy.clear()
        task = asyncio.create_task(lane.submit([Number(-1)]))
        await asyncio.to_thread(self.busy.wait, 5)
        self.batches.clear()
        return task


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture(scope="session")
def number() -> type[Number]:
    """What the device doubles."""
    return Number


@pytest.fixture(scope="session")
def limits() -> BatchLimits:
    """Those of a batcher that is not given others."""
    return LIMITS


@pytest.fixture
def batching() -> Batching:
    """Runs a batcher for a device; yields it with the device's lane."""

    @asynccontextmanager
    async def running(device: Device, limits: BatchLimits = LIMITS, **options: object):
        batcher = DynamicBatcher("test", **options)
        lane = batcher.lane("numbers", device.forward, limits)
        batcher.start()
        try:
            yield batcher, lane
        finally:
            device.free.set()
            await batcher.close(5)

    return running


@pytest.fixture(scope="session")
def values() -> Callable[[list], list]:
    """The single outcome of each of many calls."""

    def single(outcomes: list) -> list:
        return [outcome for [outcome] in outcomes]

    return single
