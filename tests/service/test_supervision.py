"""Models that fall ill while they serve: the shipped fakes, made worse by hand."""

import asyncio
import time
from base64 import b64encode
from dataclasses import dataclass

import httpx
import numpy as np
import pytest

from sightline_service.app import create_app
from sightline_service.models.fake import FakeDetector, FakePerplexity, FakeSimilarity
from sightline_service.served import Models
from sightline_service.settings import Settings
from sightline_service.supervision import Supervisor

pytestmark = pytest.mark.anyio


class Device(FakeSimilarity):
    """Embeds until it is told what is wrong with it."""

    ill = ""

    def embed_texts(self, batch):
        if self.ill == "broken":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if self.ill == "wedged":
            time.sleep(2)
        vectors = super().embed_texts(batch)
        return vectors * {"nan": np.nan, "drift": -1.0}.get(self.ill, 1.0)


class Loading:
    roles = ("similarity", "detector", "perplexity")

    def __init__(self, device: Device) -> None:
        self.device = device

    def __call__(self, report):
        for role in self.roles:
            report(role, "loading")
            report(role, "ready")
        return Models(self.device, FakeDetector(), FakePerplexity())


async def becomes(client: httpx.AsyncClient, path: str, status: int) -> dict:
    for _ in range(400):
        response = await client.get(path)
        if response.status_code == status:
            return response.json()
        await asyncio.sleep(0.02)
    raise AssertionError(f"{path} never answered {status}")


@pytest.mark.parametrize("ill", ["broken", "nan", "drift"])
async def test_a_model_that_no_longer_answers_right_turns_readiness_off_and_then_life(ill):
    device = Device()
    settings = Settings(canary_interval_s=0.02, restart_after_s=0.2)
    app = create_app(settings, Loading(device))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client,
    ):
        await becomes(client, "/readyz", 200)
        device.ill = ill
        state = await becomes(client, "/readyz", 503)
        assert state["models"] == {
            "similarity": "failing",
            "detector": "ready",
            "perplexity": "ready",
        }
        assert (await client.get("/healthz")).status_code == 200, "life has a grace"
        await becomes(client, "/healthz", 503)
        await becomes(client, "/livez", 503)
        device.ill = ""
        await becomes(client, "/readyz", 200)
        await becomes(client, "/livez", 200)


async def test_a_wedged_worker_turns_readiness_off_and_then_life(image):
    device = Device()
    settings = Settings(request_timeout_s=0.3, restart_after_s=0.1, canary_interval_s=60)
    app = create_app(settings, Loading(device))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client,
    ):
        await becomes(client, "/readyz", 200)
        device.ill = "wedged"
        body = {"items": [{"image": b64encode(image()).decode(), "texts": ["A dog."]}]}
        assert (await client.post("/sentence_reward", json=body)).status_code == 504
        assert (await becomes(client, "/readyz", 503))["models"]["similarity"] == "stalled"
        await becomes(client, "/livez", 503)
        await becomes(client, "/readyz", 200)


@pytest.mark.parametrize("ill", ["broken", "nan"])
async def test_a_service_whose_model_cannot_answer_at_all_never_becomes_ready(ill):
    device = Device()
    device.ill = ill
    app = create_app(Settings(), Loading(device))
    async with app.router.lifespan_context(app):
        service = app.state.service
        await asyncio.wait_for(service.failed.wait(), 5)
        assert "similarity" in str(service.failure)
        assert service.phase == "failed"


@dataclass
class Worker:
    state: str = "ready"


async def test_illness_is_counted_from_when_it_was_first_seen():
    now, worker = 10.0, Worker()
    supervisor = Supervisor(
        {"detector": worker}, None, interval_s=1, patience_s=1, clock=lambda: now
    )
    assert supervisor.sick_for_s() == 0
    worker.state = "dead"
    assert supervisor.sick_for_s() == 0
    now = 25.0
    assert supervisor.sick_for_s() == 15
    worker.state = "ready"
    assert supervisor.sick_for_s() == 0
    worker.state = "stalled"
    now = 30.0
    assert supervisor.sick_for_s() == 0
