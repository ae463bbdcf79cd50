"""A server that reads a request and answers at once. Knows sockets; shows the generator's limit."""

import asyncio
import sys

_REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Nothing(asyncio.Protocol):
    """Answers each complete request with an empty object."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Counts the body down; requests come one at a time."""
        if not self._missing:
            head, _, body = data.partition(b"\r\n\r\n")
            length = next(
                (
                    int(line.partition(b":")[2])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                ),
                0,
            )
            self._missing = length - len(body)
        else:
            self._missing -= len(data)
        if self._missing <= 0 and self._transport is not None:
            self._missing = 0
            self._transport.write(_REPLY)


async def main(port: int) -> None:
    """Serves until stopped."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Nothing, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
