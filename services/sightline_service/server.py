"""The server process's life: it drains before it stops listening. Knows uvicorn and signals."""

import asyncio
import logging
import signal
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from sightline_service.connections import ConnectionConfig
from sightline_service.service import Service
from sightline_service.settings import Settings

log = logging.getLogger(__name__)

_AFTER_DRAIN_S = 2
"""How long replies already written may take to leave after the drain."""


class DrainingServer(uvicorn.Server):
    """Serves until a signal, or until loading failed.

    The first SIGTERM or SIGINT turns readiness off and finishes what is accepted, while the port
    stays open so that new requests are answered 503 instead of being cut off; a second ends at
    once.
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        super().__init__(
            ConnectionConfig(
                app,
                head_timeout_s=settings.head_timeout_s,
                max_connections=settings.max_connections,
                ssl_certfile=settings.tls_cert_file,
                ssl_keyfile=settings.tls_key_file,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_AFTER_DRAIN_S,
                timeout_keep_alive=75,
                lifespan="on",
            )
        )
        self._service: Service = app.state.service
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def main_loop(self) -> None:
        """Runs until there is nothing left to serve."""
        self._loop = asyncio.get_running_loop()
        ends = [self._loop.create_task(self._end_by_signal())]
        ends.append(self._loop.create_task(self._end_by_failure()))
        await super().main_loop()
        for end in ends:
            end.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to drain; the second signal ends at once."""
        if self._loop is None or self._stopping.is_set():
            self.should_exit = self.force_exit = True
            return
        log.info("draining", extra={"signal": signal.Signals(sig).name})
        self._loop.call_soon_threadsafe(self._stopping.set)

    async def _end_by_signal(self) -> None:
        await self._stopping.wait()
        await self._service.drain()
        self.should_exit = True

    async def _end_by_failure(self) -> None:
        await self._service.failed.wait()
        self.should_exit = True


class ListenError(ValueError):
    """The port cannot be opened; the message names it."""


def listen(host: str, port: int) -> socket.socket:
    """Opens the port, 0 for any free one.

    Raises:
        ListenError: the port is taken, or the host is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ListenError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port"
        ) from None
    return listener


def url_of(listener: socket.socket, *, scheme: str = "http") -> str:
    """Returns the address for a browser on this machine."""
    host, port = listener.getsockname()[:2]
    near = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # nosec B104 # shown, not bound
    shown = near.get(host, f"[{host}]" if ":" in host else host)
    return f"{scheme}://{shown}:{port}"
