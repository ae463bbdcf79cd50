"""Carry out flows: send what they yield, make their pauses. Knows httpx, threads and asyncio."""

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar, cast

import httpx

from sightline.config import ClientConfig
from sightline.delivery import Flow, Outcome, Pause, Step

T = TypeVar("T")


class BlockingDriver:
    """Carries out flows on the calling thread, at most `max_concurrency` at once over all threads.

    A flow keeps its place while it pauses, so that retries do not add to what a busy service gets.
    """

    def __init__(self, config: ClientConfig, transport: httpx.BaseTransport | None) -> None:
        self._width = config.max_concurrency
        self._places = threading.BoundedSemaphore(self._width)
        self._http = httpx.Client(transport=transport, limits=_limits(config))

    def run(self, flow: Flow[T]) -> T:
        """Returns the flow's result, or raises its error."""
        with self._places, closing(flow):
            outcome: Outcome = None
            while True:
                try:
                    step = flow.send(outcome)
                except StopIteration as end:
                    return cast(T, end.value)
                outcome = self._perform(step)

    def run_all(self, flows: Sequence[Flow[T]]) -> list[T]:
        """Runs flows side by side; the first error ends those that have not begun."""
        if len(flows) == 1:
            return [self.run(flows[0])]
        pool = ThreadPoolExecutor(min(len(flows), self._width), thread_name_prefix="sightline")
        try:
            return [running.result() for running in [pool.submit(self.run, f) for f in flows]]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _perform(self, step: Step) -> Outcome:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            return self._http.send(step)
        except httpx.TransportError as error:
            return error


class AsyncDriver:
    """The same on an event loop, without threads."""

    def __init__(self, config: ClientConfig, transport: httpx.AsyncBaseTransport | None) -> None:
        self._places = asyncio.Semaphore(config.max_concurrency)
        self._http = httpx.AsyncClient(transport=transport, limits=_limits(config))

    async def run(self, flow: Flow[T]) -> T:
        """Returns the flow's result, or raises its error."""
        async with self._places:
            with closing(flow):
                outcome: Outcome = None
                while True:
                    try:
                        step = flow.send(outcome)
                    except StopIteration as end:
                        return cast(T, end.value)
                    outcome = await self._perform(step)

    async def run_all(self, flows: Sequence[Flow[T]]) -> list[T]:
        """Runs flows side by side; the first error cancels the others."""
        tasks = [asyncio.ensure_future(self.run(flow)) for flow in flows]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _perform(self, step: Step) -> Outcome:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            return await self._http.send(step)
        except httpx.TransportError as error:
            return error


def _limits(config: ClientConfig) -> httpx.Limits:
    return httpx.Limits(max_connections=None, max_keepalive_connections=config.max_concurrency)
