"""Connections may not be held for nothing. Knows uvicorn's protocol; knows no requests' content."""

import asyncio
import re
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MAX_HEAD_BYTES = 64 * 1024
_UPGRADE = re.compile(rb"(?i)(?<=\n)upgrade(?=:)")


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


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 that closes a connection whose request does not begin to make sense in time.

    The body has the request's own deadline, and silence between requests uvicorn's; what neither
    covers is a head that arrives by a byte a minute, or never, or never ends.
    """

    _config: ConnectionConfig
    _head_is_late: asyncio.TimerHandle | None = None
    _head_begun = False
    _head_bytes = 0
    _body_open = False
    _unanswered = 0

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
        """Reads; from the first byte of a head, its last must come in time, and soon enough."""
        in_body = self._body_open or self._unanswered
        super().data_received(data if in_body else _staying(data))
        if self._body_open or (self._unanswered and not self._head_begun):
            return
        self._head_bytes += len(data)
        if not self._unanswered:
            self._expect_head()
        if self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The head is longer than {_MAX_HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        """Takes the first byte of a head."""
        self._head_begun, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Takes the last byte of a head."""
        self._head_begun, self._body_open = False, True
        self._unanswered += 1
        self._forget_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Takes the last byte of a body."""
        self._body_open = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Turns to the next request, whose head may have begun to arrive already."""
        self._unanswered -= 1
        super().on_response_complete()
        if self._head_begun and not self._unanswered:
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
        if not self._unanswered:
            self.transport.close()


def _staying(data: bytes) -> bytes:
    """Returns `data`, which begins in a head, without its offer to change the protocol.

    A server may pass over it, as this one does; the parser would take the body for bytes of the
    other protocol. Java's client makes the offer with its first request.
    """
    end = data.find(b"\r\n\r\n")
    head = data if end < 0 else data[:end]
    kept, n_offers = _UPGRADE.subn(b"x-upgrade", head)
    return kept + data[len(head) :] if n_offers else data
