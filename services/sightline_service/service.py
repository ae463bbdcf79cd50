"""One running service: its phase, its engine, its bounds. Knows the parts; knows no HTTP."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Literal, Protocol

from sightline_service.admission import Admission
from sightline_service.caches import ByteLru
from sightline_service.canary import Canary
from sightline_service.concurrency import in_daemon_thread
from sightline_service.device_memory import device_memory
from sightline_service.engine import Engine
from sightline_service.errors import NotReadyError
from sightline_service.image_store import ImageStore
from sightline_service.metrics import Metrics
from sightline_service.models.openmp import keep_to_thread
from sightline_service.preparing import Preparer
from sightline_service.served import Models, Role
from sightline_service.settings import Settings
from sightline_service.supervision import ModelState, Supervisor

log = logging.getLogger(__name__)

Phase = Literal["loading", "ready", "draining", "failed", "closed"]
Report = Callable[[Role, Literal["loading", "ready"]], None]


class Loader(Protocol):
    """Brings the models up, on a thread of its own, and reports each role as it goes."""

    @property
    def roles(self) -> tuple[Role, ...]:
        """What will be served."""
        ...

    def __call__(self, report: Report) -> Models:
        """Returns the models; any exception means that the service cannot run."""
        ...


class Service:
    """Everything that requests share.

    Args:
        settings: the bounds.
        models: what to serve, or a loader that brings it up after the start.
    """

    def __init__(self, settings: Settings, models: Models | Loader) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.keys = settings.key_ring()
        self.admission = Admission(
            max_requests=settings.max_concurrent_requests,
            max_items=settings.max_queue_items,
            max_bytes=settings.max_inflight_bytes,
            share=lambda: settings.caller_share if self.keys.several else 1.0,
        )
        self.store = ImageStore(settings.image_store_bytes)
        self.preparer = Preparer(
            settings.prepare_threads, observe=self.metrics.observe_stage, begin=keep_to_thread
        )
        self.failure: Exception | None = None
        self._models = models
        self._engine: Engine | None = None
        self._supervisor: Supervisor | None = None
        self._loading: dict[Role, ModelState] = dict.fromkeys(_roles(models), "waiting")
        self._load_task: asyncio.Task[None] | None = None
        self._closed = False
        self.failed = asyncio.Event()
        self._watch()

    @property
    def phase(self) -> Phase:
        """Where the service stands as a whole."""
        if self._closed:
            return "closed"
        if self.failure is not None:
            return "failed"
        if self.admission.draining:
            return "draining"
        if self._engine is None:
            return "loading"
        healthy = all(state == "ready" for state in self.model_states().values())
        return "ready" if healthy else "failed"

    @property
    def engine(self) -> Engine:
        """The engine.

        Raises:
            NotReadyError: the models are not loaded.
        """
        if self._engine is None:
            raise NotReadyError(self.phase)
        return self._engine

    def model_states(self) -> dict[Role, ModelState]:
        """Returns where each served model stands."""
        return self._supervisor.states() if self._supervisor else dict(self._loading)

    @property
    def needs_restart(self) -> bool:
        """Whether a model has been unable to answer for longer than it may."""
        sick_for_s = self._supervisor.sick_for_s() if self._supervisor else 0.0
        return sick_for_s > self.settings.restart_after_s

    def start(self) -> None:
        """Brings the engine up: at once, or as soon as the loader is done."""
        if isinstance(self._models, Models):
            engine = self._started(self._models)
            self._open(engine, self._supervise(engine, None))
        else:
            self._load_task = asyncio.create_task(self._load(self._models))

    async def drain(self) -> None:
        """Takes nothing new and waits, at most `drain_timeout_s`, for what is accepted."""
        self.admission.draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_timeout_s):
                await self.admission.idle.wait()

    async def close(self) -> None:
        """Ends the threads; whoever still waits is told."""
        self.admission.draining = True
        if self._load_task is not None:
            self._load_task.cancel()
        if self._supervisor is not None:
            self._supervisor.close()
        if self._engine is not None:
            await self._engine.close(self.settings.drain_timeout_s)
        self.preparer.close()
        self._closed = True

    async def _load(self, loader: Loader) -> None:
        started: dict[Role, float] = {}

        def report(role: Role, state: Literal["loading", "ready"]) -> None:
            self._loading[role] = state
            if state == "loading":
                started[role] = time.monotonic()
            else:
                seconds = time.monotonic() - started[role]
                self.metrics.observe_load(role, seconds)
                log.info("%s model loaded", role, extra={"seconds": round(seconds, 2)})

        try:
            engine = self._started(await in_daemon_thread(lambda: loader(report)))
            canary = Canary(engine.models, engine.batchers, self.preparer)
            supervisor = self._supervise(engine, canary)
            await supervisor.examine()
            self._open(engine, supervisor)
        except Exception as error:  # noqa: BLE001 - whatever it is, the service cannot run
            self.failure = error
            self.failed.set()

    def _started(self, models: Models) -> Engine:
        engine = Engine(
            models,
            self.settings,
            store=self.store,
            preparer=self.preparer,
            observe=self.metrics.observe_batch,
        )
        engine.start()
        return engine

    def _supervise(self, engine: Engine, canary: Canary | None) -> Supervisor:
        return Supervisor(
            engine.batchers,
            canary,
            interval_s=self.settings.canary_interval_s,
            patience_s=self.settings.request_timeout_s,
        )

    def _open(self, engine: Engine, supervisor: Supervisor) -> None:
        self._watch_engine(engine)
        self._engine, self._supervisor = engine, supervisor
        supervisor.start()
        log.info("ready", extra={"models": ",".join(engine.batchers)})

    def _watch(self) -> None:
        watch, admission = self.metrics.watch, self.admission
        watch("requests_in_flight", lambda: admission.requests)
        watch("queue_items", lambda: admission.items)
        watch("inflight_bytes", lambda: admission.bytes)
        for role in _roles(self._models):
            watch("model_ready", partial(self._is_ready, role), role)
        self._watch_cache("images", self.store.cache)

    def _watch_engine(self, engine: Engine) -> None:
        for state, read in device_memory().items():
            self.metrics.watch("gpu_memory_bytes", read, state)
        for role, batcher in engine.batchers.items():
            self.metrics.watch("batch_queue_items", partial(getattr, batcher, "waiting"), role)
        if engine.embedder is not None:
            self._watch_cache("embeddings", engine.embedder.cache)

    def _watch_cache(self, name: str, cache: ByteLru[Any, Any]) -> None:
        self.metrics.watch("cache_bytes", lambda: cache.bytes, name)
        self.metrics.watch("cache_hits", lambda: cache.hits, name)
        self.metrics.watch("cache_misses", lambda: cache.misses, name)

    def _is_ready(self, role: Role) -> bool:
        return self.model_states()[role] == "ready"


def _roles(models: Models | Loader) -> tuple[Role, ...]:
    if isinstance(models, Models):
        return tuple(role for role, _ in models.by_role())
    return models.roles
