"""The load generator against a server that does nothing."""

import asyncio
import time

from sightline_bench.client import Generator, Order
from sightline_bench.load import jpeg
from sightline_bench.null_server import Nothing


async def generate(folder, **changes):
    jpeg((336, 336), folder)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Nothing, "127.0.0.1", 0)
    now = time.monotonic()
    order = Order(
        ports=(server.sockets[0].getsockname()[1],),
        dialect="sentence-json",
        load="distinct-1",
        pictures=str(folder),
        connections=4,
        start=0,
        **{"begin": now + 0.05, "end": now + 0.6, **changes},
    )
    taken = await Generator(order).run()
    server.close()
    await asyncio.sleep(0.05)  # the transports' own goodbyes
    return taken


def test_each_connection_reports_whole_cycles(tmp_path):
    taken = asyncio.run(generate(tmp_path))
    assert not taken.failures
    assert 1 <= len(taken.units) == len(taken.spans) <= 4
    assert sum(taken.units) <= len(taken.latencies) <= sum(taken.units) + 4
    assert len(taken.was_long) == len(taken.latencies)
    assert all(seconds > 0 for seconds in (*taken.latencies, *taken.spans))


def test_arrivals_keep_their_rate_whatever_the_server_does(tmp_path):
    taken = asyncio.run(generate(tmp_path, rate=100.0))
    assert not taken.failures
    assert 15 < len(taken.latencies) < 130
