"""The load generator: connections that ask, wait and ask again. Knows sockets, no models.

A process of its own; `python -m sightline_bench.client` reads an `Order` as JSON from its standard
input and writes the `Taken` times to its standard output.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from sightline_bench.dialect import DIALECTS, Dialect
from sightline_bench.load import LOADS, Stream, numbers


@dataclass(frozen=True, slots=True)
class Order:
    """What one process of the generator is to do.

    Attributes:
        ports: of the servers; a unit goes to the one that its image picks.
        dialect: names one of `DIALECTS`.
        load: names one of `LOADS`.
        pictures: the folder of the pictures.
        connections: how many ask at a time.
        start: the number of the first unit.
        begin: when to start to count: a monotonic time in seconds.
        end: when to stop asking.
        rate: units per second, arriving at random; 0 for asking again after each reply.
        in_step: all connections ask for the same unit at the same time.
    """

    ports: tuple[int, ...]
    dialect: str
    load: str
    pictures: str
    connections: int
    start: int
    begin: float
    end: float
    rate: float = 0.0
    in_step: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """What was seen: per unit its seconds and whether it was a long one; and per connection.

    `units` and `spans` cover whole cycles: from a connection's first question after `begin` to
    its first one after `end`. `asked` counts all units, the warm-up's too.
    """

    latencies: list[float]
    was_long: list[bool]
    units: list[int]
    spans: list[float]
    failures: list[str]
    asked: int = 0


class Connection(asyncio.Protocol):
    """One keep-alive connection to a server that tells the length of its replies."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._wanted = -1
        self._reply: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Gathers a reply."""
        self._buffer += data
        if self._wanted < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._wanted = end + 4 + _content_length(bytes(self._buffer[:end]))
        if len(self._buffer) >= self._wanted and self._reply is not None:
            reply, self._buffer, self._wanted = bytes(self._buffer), bytearray(), -1
            self._reply.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells whoever waits."""
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(exc or ConnectionResetError("the server hung up"))

    def close(self) -> None:
        """Hangs up."""
        if self._transport is not None:
            self._transport.close()

    async def ask(self, request: bytes) -> bytes:
        """Returns the whole reply, head and body.

        Raises:
            ConnectionError: the server hung up.
        """
        assert self._transport is not None
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._reply


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise ValueError(f"a reply without content-length: {head[:200]!r}")


async def _connect(port: int) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
    return connection


class Generator:
    """Carries out one order."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._stream = Stream(LOADS[order.load], Path(order.pictures))
        self._dialect: Dialect = DIALECTS[order.dialect]
        self._n_images = LOADS[order.load].n_images
        self._taken = Taken([], [], [], [], [])
        self._asked = 0
        self._opened: list[Connection] = []

    async def run(self) -> Taken:
        """Returns what was seen when every question is answered."""
        order = self._order
        try:
            async with asyncio.TaskGroup() as group:
                if order.rate:
                    group.create_task(self._arrivals(group))
                else:
                    for index in range(order.connections):
                        group.create_task(self._again_and_again(index))
        finally:
            for connection in self._opened:
                connection.close()
        return replace(self._taken, asked=self._asked)

    async def _connect(self) -> list[Connection]:
        """Opens one connection to each server."""
        lines = [await _connect(port) for port in self._order.ports]
        self._opened += lines
        return lines

    async def _again_and_again(self, index: int) -> None:
        order = self._order
        lines = await self._connect()
        first: float | None = None
        units = 0
        for number in self._numbers(index):
            now = time.monotonic()
            if first is None and now >= order.begin:
                first = now
            if now >= order.end:
                if first is not None and units:
                    self._taken.units.append(units)
                    self._taken.spans.append(now - first)
                return
            await self._ask(lines, number)
            units += first is not None

    def _numbers(self, index: int) -> Iterator[int]:
        order = self._order
        if order.in_step:
            return numbers(order.start, 0, 1)
        return numbers(order.start, index, order.connections)

    async def _arrivals(self, group: asyncio.TaskGroup) -> None:
        """Open loop: nobody waits for a reply before the next unit arrives."""
        order = self._order
        idle = [await self._connect() for _ in range(order.connections)]
        chance = random.Random(order.start)
        at = time.monotonic()
        for number in numbers(order.start, 0, 1):
            at += chance.expovariate(order.rate)
            if at >= order.end:
                return
            await asyncio.sleep(max(at - time.monotonic(), 0))
            lines = idle.pop() if idle else await self._connect()
            group.create_task(self._arrived(lines, number, at, idle))

    async def _arrived(
        self, lines: list[Connection], number: int, at: float, idle: list[list[Connection]]
    ) -> None:
        await self._ask(lines, number, since=at)
        idle.append(lines)

    async def _ask(self, lines: list[Connection], number: int, since: float | None = None) -> None:
        """Asks once; a unit that was asked for before `begin` is not recorded."""
        self._asked += 1
        unit = self._stream.unit(number)
        image = number if self._n_images is None else number % self._n_images
        line = lines[image * _SCATTER % _PRIME % len(lines)]
        requests = self._dialect(unit)
        started = time.monotonic() if since is None else since
        for request in requests:
            reply = await line.ask(request)
            if not reply.startswith(b"HTTP/1.1 200") or b'"error"' in reply:
                self._taken.failures.append(reply[:400].decode("utf-8", "replace"))
        if started >= self._order.begin:
            self._taken.latencies.append(time.monotonic() - started)
            self._taken.was_long.append(unit.is_long)


_SCATTER, _PRIME = 2_654_435_761, 2**31 - 1
"""Sends an image to the same one of several servers each time, as a router by its hash would."""


def main() -> None:
    """Carries out the order that stands on standard input."""
    order = TypeAdapter(Order).validate_json(sys.stdin.read())
    taken = asyncio.run(Generator(order).run())
    sys.stdout.write(json.dumps(asdict(taken)))


if __name__ == "__main__":
    main()
