"""Connections may not be held for nothing. Knows uvicorn's protocol; knows no requests' content."""

import asyncio
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol


class ConnectionConfig(uvicorn.Config):
    """uvicorn's settings, with bounds that it does not have.

    Args:
        app: what is served.
        head_timeout_s: longest that a connection may take to send the head of a request.
        max_connections: at a time; more are closed at once.
        options: of `uvicorn.Config`.
    """

    def __init__(
        self,
        app: Any,  # noqa: ANN401 - uvicorn's own type of an app
        *,
        head_timeout_s: float,
        max_connections: int,
        **options: Any,  # noqa: ANN401 - uvicorn's options, each of its own type
    ) -> None:
        super().__init__(app, http=BoundedProtocol, **options)
        self.head_timeout_s = head_timeout_s
        self.max_connections = max_connections


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose request does not begin to make sense in time.

    The body has the request's own deadline, and silence between requests uvicorn's; what neither
    covers is a head that arrives by a byte a minute, or never.
    """

    _config: ConnectionConfig
    _head_is_late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it too
        """Opens the connection, or closes it where there are too many."""
        super().connection_made(transport)
        assert isinstance(self.config, ConnectionConfig)
        self._config = self.config
        if len(self.connections) > self._config.max_connections:
            self.connections.discard(self)
            transport.close()
            return
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Reads; from the first byte of a head, its last must come in time."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._expect_head()
        else:
            self._forget_head()

    def on_response_complete(self) -> None:
        """Turns to the next request, whose head may have begun to arrive already."""
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._forget_head()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self._head_is_late is None:
            self._head_is_late = self.loop.call_later(self._config.head_timeout_s, self._close_late)

    def _forget_head(self) -> None:
        if self._head_is_late is not None:
            self._head_is_late.cancel()
            self._head_is_late = None

    def _close_late(self) -> None:
        self._head_is_late = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()
