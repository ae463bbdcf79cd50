"""Whether the models can still answer, and since when not. Knows workers; knows no HTTP."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Literal

from sightline_service.batching import DynamicBatcher
from sightline_service.canary import Canary, CanaryError
from sightline_service.concurrency import together
from sightline_service.served import Role

log = logging.getLogger(__name__)

ModelState = Literal["waiting", "loading", "ready", "failing", "stalled", "dead", "closed"]


class Supervisor:
    """Watches the owner threads, and has the canary sing to the models at intervals.

    Args:
        batchers: the owner threads.
        canary: asks test questions; None for threads alone.
        interval_s: seconds between two questions.
        patience_s: how long an answer may take; one that takes longer tells nothing, as the model
            may be busy, and one that is wedged shows as stalled.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        batchers: Mapping[Role, DynamicBatcher],
        canary: Canary | None,
        *,
        interval_s: float,
        patience_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._batchers = batchers
        self._canary = canary
        self._interval_s = interval_s
        self._patience_s = patience_s
        self._clock = clock
        self._failing: set[Role] = set()
        self._sick_since: float | None = None
        self._watch: asyncio.Task[None] | None = None

    def states(self) -> dict[Role, ModelState]:
        """Returns where each model stands."""
        return {role: self._state(role) for role in self._batchers}

    def sick_for_s(self) -> float:
        """How long one of the models has been dead, stalled or failing, as far as was seen."""
        sick = any(state in ("dead", "stalled", "failing") for state in self.states().values())
        if not sick:
            self._sick_since = None
            return 0.0
        now = self._clock()
        self._sick_since = now if self._sick_since is None else self._sick_since
        return now - self._sick_since

    async def examine(self) -> None:
        """Asks every model once.

        Raises:
            CanaryError: one cannot answer.
        """
        if self._canary is not None:
            await together(self._canary.sing(role) for role in self._canary.roles)

    def start(self) -> None:
        """Begins to watch; needs a running event loop."""
        if self._canary is not None:
            self._watch = asyncio.create_task(self._watch_for_ever(self._canary))

    def close(self) -> None:
        """Ends the watch."""
        if self._watch is not None:
            self._watch.cancel()

    def _state(self, role: Role) -> ModelState:
        worker = self._batchers[role].state
        if worker == "new":
            return "loading"
        return "failing" if worker == "ready" and role in self._failing else worker

    async def _watch_for_ever(self, canary: Canary) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await together(self._listen(canary, role) for role in canary.roles)
            self.sick_for_s()

    async def _listen(self, canary: Canary, role: Role) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await canary.sing(role)
        except TimeoutError:
            return
        except CanaryError as error:
            self._failing.add(role)
            log.error("the %s model is failing", role, exc_info=error)
        else:
            if role in self._failing:
                log.info("the %s model has recovered", role)
            self._failing.discard(role)
