"""Servers as processes: started, waited for, halted, measured, stopped. Knows /proc and signals.

Each has a session of its own, so that signals reach all of its processes and no others.
"""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_START_S = 300.0
_STOP_S = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")


class StartError(RuntimeError):
    """A server did not come up; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds since the start, and the resident bytes now, of all its processes."""

    cpu_s: float
    memory_bytes: int


class Session:
    """A process that leads a session of its own."""

    _process: "subprocess.Popen[Any]"

    def halt(self) -> None:
        """Takes its processes off the cores, so that they do not disturb others."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Lets them run again."""
        os.killpg(self._process.pid, signal.SIGCONT)


class ServerProcess(Session):
    """One server with all the processes that it starts.

    Args:
        command: what to run.
        port: where it listens.
        ready_path: what it answers 200 once it serves; None for an open port.
        log: the file for its output.
        environment: variables beyond this process's own.
        cores: the cores that it may use; all, if empty.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        port: int,
        ready_path: str | None,
        log: Path,
        environment: Mapping[str, str],
        cores: Sequence[int] = (),
    ) -> None:
        self.port = port
        self._ready_path = ready_path
        self._log = log
        self._name = command[0]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        if cores:
            os.sched_setaffinity(self._process.pid, cores)

    def wait_until_ready(self) -> None:
        """Blocks until the server answers.

        Raises:
            StartError: it ended, or took too long.
        """
        give_up = time.monotonic() + _START_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > give_up:
                end = self._log.read_text(errors="replace")[-2000:]
                raise StartError(f"{self._name} failed:\n{end}")
            time.sleep(0.2)

    def stop(self) -> None:
        """Ends all its processes."""
        self.go_on()
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        if self._members():
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def usage(self) -> Usage:
        """Returns what its processes have used; a process that ended is left out."""
        cpu, memory = 0.0, 0
        for pid in self._members():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                pages = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            cpu += (int(fields[11]) + int(fields[12])) / _TICKS
            memory += 1024 * sum(
                int(line.split()[1]) for line in pages.splitlines() if line.startswith("Pss:")
            )
        return Usage(cpu, memory)

    def _members(self) -> list[int]:
        """The processes of its session."""
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
                except OSError:
                    continue
                if session == self._process.pid:
                    found.append(int(entry.name))
        return found

    def _is_ready(self) -> bool:
        if self._ready_path is None:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0
        try:
            url = f"http://127.0.0.1:{self.port}{self._ready_path}"
            with urllib.request.urlopen(url, timeout=2) as reply:
                return int(reply.status) == 200
        except (urllib.error.URLError, OSError):
            return False


def free_port() -> int:
    """Returns a port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
