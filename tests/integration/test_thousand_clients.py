"""A small queue before a thousand clients, over a real socket: a score or a 429 for everybody."""

import asyncio
import base64
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import PIL.Image
import pytest

from sightline_world.scenes import scenes

pytestmark = pytest.mark.anyio

CLIENTS = 1_000
SERVE = [sys.executable, "-m", "sightline_service", "--port", "0", "--log-format", "text"]
SMALL = ["--max-queue-items", "64", "--max-concurrent-requests", "32", "--embedding-cache-bytes"]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A service process of its own; yields its URL and process id."""
    log = tmp_path / "service.log"
    with log.open("wb") as file:
        process = subprocess.Popen([*SERVE, *SMALL, "1000000"], stdout=file, stderr=file)
    try:
        yield wait_until_ready(process, log), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0, log.read_text()


def wait_until_ready(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())
        if found:
            url = f"http://127.0.0.1:{found[1]}"
            if httpx.get(f"{url}/readyz").status_code == 200:
                return url
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def test_each_of_a_thousand_concurrent_clients_gets_a_score_or_a_429(
    service: tuple[str, int], png: Callable[[PIL.Image.Image], bytes]
):
    url, pid = service
    images = [base64.b64encode(png(s.image)).decode() for s in scenes("validation", 50)]
    before = resident_bytes(pid)

    async def client(number: int, http: httpx.AsyncClient) -> int:
        texts = [f"A dog and a cat, number {number}.", "A kite."]
        item = {"id": str(number), "image": images[number % len(images)], "texts": texts}
        reply = await http.post("/sentence_reward", json={"items": [item]})
        if reply.status_code == 200:
            [answer] = reply.json()["items"]
            assert answer["id"] == str(number)
            assert len(answer["results"]) == 2
        else:
            assert reply.status_code == 429, reply.text
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.json()["error"]["code"] == "overloaded"
        return reply.status_code

    limits = httpx.Limits(max_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as http:
        statuses = Counter(await asyncio.gather(*(client(n, http) for n in range(CLIENTS))))
        assert (await http.get("/readyz")).status_code == 200
        queued = (await http.get("/metrics")).text
    assert statuses[200] > 0
    assert statuses[429] > 0
    assert statuses.total() == CLIENTS
    assert re.search(r"^sightline_requests_in_flight [01]\.0$", queued, re.MULTILINE)
    assert resident_bytes(pid) - before < 500e6
