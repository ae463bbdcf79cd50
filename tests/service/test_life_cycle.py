"""The app from loading to draining: what it tells of itself, and what it answers meanwhile."""

import asyncio
import threading

import httpx
import pytest
import torch

from sightline_service.app import create_app
from sightline_service.models.fake import FakeSimilarity, Trouble
from sightline_service.served import Models
from sightline_service.settings import Settings

pytestmark = pytest.mark.anyio


async def test_readiness_tells_the_state_of_each_model(serve):
    async with serve() as client:
        for path in ("/readyz", "/health"):
            assert (await client.get(path)).json() == {
                "status": "ready",
                "models": {
                    "similarity": "ready",
                    "detector": "ready",
                    "perplexity": "ready",
                },
            }


async def test_threads_that_prepare_compute_without_a_team(serve):
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # on one core, too, where a thread has no team anyway
    try:
        async with serve() as client:
            assert await client.service.preparer.run("prepare", torch.get_num_threads) == 1
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


class Dying(FakeSimilarity):
    def embed_texts(self, batch):
        raise SystemExit


async def test_a_dead_worker_turns_readiness_off_and_hangs_nobody(
    serve, models, image, request_of, error_of
):
    async with serve(models(similarity=Dying())) as client:
        async with asyncio.timeout(5):
            dying = await client.post("/sentence_reward", json=request_of(image()))
            after = await client.post("/sentence_reward", json=request_of(image(1)))
        ready = await client.get("/readyz")
        alive = await client.get("/healthz")
        other = await client.post("/perplexity", json={"items": [{"texts": ["a"]}]})
        metrics = (await client.get("/metrics")).text
    assert error_of(dying) == error_of(after) == (503, "not_ready")
    assert ready.status_code == 503
    assert "retry-after" in ready.headers
    assert ready.json()["models"]["similarity"] == "dead"
    assert ready.json()["error"]["code"] == "not_ready"
    assert (alive.status_code, other.status_code) == (200, 200)
    assert 'sightline_model_ready{model="similarity"} 0.0' in metrics
    assert 'sightline_model_ready{model="detector"} 1.0' in metrics


class SlowLoader:
    roles = ("similarity",)

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.may_end = threading.Event()

    def __call__(self, report):
        report("similarity", "loading")
        assert self.may_end.wait(10)
        if self.failure:
            raise self.failure
        report("similarity", "ready")
        return Models(similarity=FakeSimilarity())


async def test_while_models_load_probes_answer_and_scoring_waits(
    image, request_of, error_of, until
):
    loader = SlowLoader()
    app = create_app(Settings(similarity="fake"), loader)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        await until(lambda: app.state.service.model_states() == {"similarity": "loading"})
        alive, ready = await client.get("/healthz"), await client.get("/readyz")
        scoring = await client.post("/sentence_reward", json=request_of(image()))
        loader.may_end.set()
        await until(lambda: app.state.service.phase == "ready")
        later = await client.post("/sentence_reward", json=request_of(image()))
        metrics = (await client.get("/metrics")).text
    assert alive.status_code == 200
    assert (ready.status_code, ready.json()["models"]) == (503, {"similarity": "loading"})
    assert error_of(scoring) == (503, "not_ready")
    assert "retry-after" in scoring.headers
    assert later.status_code == 200
    assert 'sightline_model_load_seconds{model="similarity"} 0.' in metrics


async def test_a_failed_load_is_kept_for_whoever_started_the_service():
    loader = SlowLoader(ValueError("no such file"))
    loader.may_end.set()
    app = create_app(Settings(similarity="fake"), loader)
    async with app.router.lifespan_context(app):
        async with asyncio.timeout(5):
            await app.state.service.failed.wait()
        assert str(app.state.service.failure) == "no such file"
        assert app.state.service.phase == "failed"


async def test_draining_finishes_what_is_accepted_and_refuses_the_rest(
    serve, models, image, request_of, error_of, until
):
    slow = models(similarity=FakeSimilarity(Trouble(delay_s=0.2)))
    async with serve(slow) as client:
        accepted = asyncio.create_task(client.post("/sentence_reward", json=request_of(image())))
        await until(lambda: client.service.admission.requests == 1)
        drain = asyncio.create_task(client.service.drain())
        await asyncio.sleep(0.01)
        refused = await client.post("/sentence_reward", json=request_of(image(2)))
        ready, alive = await client.get("/readyz"), await client.get("/healthz")
        assert not drain.done()
        assert (await accepted).status_code == 200
        async with asyncio.timeout(5):
            await drain
    assert error_of(refused) == (503, "draining")
    assert "retry-after" in refused.headers
    assert (ready.status_code, ready.json()["status"]) == (503, "draining")
    assert alive.status_code == 200


async def test_draining_ends_in_time_whatever_is_running(
    serve, models, image, request_of, error_of, until
):
    slow = models(similarity=FakeSimilarity(Trouble(delay_s=2.0)))
    async with serve(slow, drain_timeout_s=0.05) as client:
        accepted = asyncio.create_task(client.post("/sentence_reward", json=request_of(image())))
        await until(lambda: client.service.admission.requests == 1)
        async with asyncio.timeout(1.5):
            await client.service.drain()
            await client.service.close()
            assert error_of(await accepted) == (503, "draining")
