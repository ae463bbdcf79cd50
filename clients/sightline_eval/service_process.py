"""A reward service of our own: started, awaited, stopped. Knows processes; scores nothing."""

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import httpx

_HOST = "127.0.0.1"
_POLL_S = 0.2
_STOP_S = 15.0
_LOG_LINES = 30


class ServiceStartError(RuntimeError):
    """The service ended or stayed unready; the message holds the end of its log."""


class ServiceProcess:
    """A service that was started: its address, and how to wait until it answers."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.url = url
        self._process = process
        self._log = log

    def await_ready(self, *, deadline_s: float = 300.0) -> None:
        """Returns once `/readyz` answers 200, that is once the models are loaded.

        Raises:
            ServiceStartError: the service ended, or `deadline_s` seconds passed.
        """
        deadline = time.monotonic() + deadline_s
        while not _is_ready(self.url):
            code = self._process.poll()
            if code is not None:
                raise ServiceStartError(f"the service ended with code {code}{_tail(self._log)}")
            if time.monotonic() > deadline:
                raise ServiceStartError(
                    f"the service was not ready after {deadline_s:.0f} s{_tail(self._log)}"
                )
            time.sleep(_POLL_S)


@contextmanager
def running_service(options: Sequence[str] = ()) -> Generator[ServiceProcess, None, None]:
    """Runs `python -m sightline_service` beside the block, and stops it whatever happens there.

    The block begins at once, while the models still load: see `await_ready`. The service gets a
    session of its own, so that Ctrl-C reaches this process alone, which then stops the service by
    its process id. SIGTERM is turned into an ordinary exit for the same end.

    Args:
        options: further command-line options of the service.
    """
    port = _free_port()
    command = [sys.executable, "-m", "sightline_service", "--host", _HOST, "--port", str(port)]
    with tempfile.TemporaryDirectory(prefix="sightline-") as folder, _exit_on_sigterm():
        log = Path(folder) / "service.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(  # nosec B603 # our own module, no shell
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield ServiceProcess(process, f"http://{_HOST}:{port}", log)
        finally:
            _stop(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2.0, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    return "; its log ends:\n" + "\n".join(lines) if lines else "; it wrote no log"


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _exit_on_sigterm() -> Generator[None, None, None]:
    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
