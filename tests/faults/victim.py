"""A service process to do things to: killed, frozen, drained. Knows processes and signals."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import httpx

from sightline import RewardClient

ENVIRONMENT = {name: value for name, value in os.environ.items() if "SIGHTLINE" not in name} | {
    "OMP_NUM_THREADS": "1"
}
T = TypeVar("T")

WORLD = ()
FAKES = ("--similarity", "fake", "--detector", "fake", "--perplexity", "fake")
ILL = ("--similarity", "fake")
"""Models that misbehave when a text says so: `ill_service` has them whatever the flags say."""

ILL_SERVICE = str(Path(__file__).with_name("ill_service.py"))


class Victim:
    """`sightline serve`, or the same with models that misbehave, as a process of its own."""

    def __init__(
        self, flags: Sequence[str], folder: Path, *, ill: bool = False, port: int = 0
    ) -> None:
        program = [ILL_SERVICE] if ill else ["-m", "sightline_service"]
        self.log_file = folder / f"service-{time.monotonic_ns()}.log"
        with self.log_file.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, *program, "--port", str(port), *flags],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
            )
        self.url = self._wait_for(self._address, 120)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace")

    def await_ready(self, deadline_s: float = 600) -> None:
        self._wait_for(lambda: self.status("/readyz") == 200, deadline_s)

    def await_status(self, path: str, status: int, deadline_s: float = 30) -> None:
        self._wait_for(lambda: self.status(path) == status, deadline_s)

    def status(self, path: str) -> int | None:
        """The answer's status; None where none came."""
        try:
            return httpx.get(self.url + path, timeout=5, trust_env=False).status_code
        except httpx.TransportError:
            return None

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry the labels."""
        text = httpx.get(f"{self.url}/metrics", timeout=20, trust_env=False).text
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in text.splitlines() if re.match(rf"{name}(_total)?[{{ ]", line)]
        return sum(
            float(line.rpartition(" ")[2]) for line in lines if all(each in line for each in wanted)
        )

    def client(self, **options: object) -> RewardClient:
        return RewardClient(self.url, **options)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends at once, frozen or not."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        self.process.terminate()

    def _address(self) -> str | None:
        found = re.search(r"http://127\.0\.0\.1:\d+", self.log)
        return found[0] if found else None

    def _wait_for(self, look: Callable[[], T], deadline_s: float) -> T:
        deadline = time.monotonic() + deadline_s
        while not (found := look()):
            assert self.process.poll() is None, f"it ended:\n{self.log[-3000:]}"
            assert time.monotonic() < deadline, f"not within {deadline_s} s:\n{self.log[-3000:]}"
            time.sleep(0.05)
        return found
