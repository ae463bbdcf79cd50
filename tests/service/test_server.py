"""The real process: uvicorn, sockets, signals."""

import asyncio
import base64
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from sightline_service.__main__ import main
from sightline_service.models.reference import ModelLoadError
from sightline_service.server import ListenError, listen, url_of

pytestmark = pytest.mark.anyio

FAKES = ["--similarity", "fake", "--detector", "fake", "--perplexity", "fake"]
SMALL = ["--max-concurrent-requests", "8", "--max-queue-items", "12", "--max-body-bytes", "1000000"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if "SIGHTLINE" not in name}


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[subprocess.Popen, str]]:
    """`sightline serve` with little room on a free port: the process and its URL."""
    command = [sys.executable, "-m", "sightline_service", "--port", "0", *FAKES, *SMALL]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as running:
        try:
            assert running.stderr is not None
            line = running.stderr.readline()
            found = re.search(r"http://[\d.]+:\d+", line)
            assert found, line
            wait_until_ready(found[0])
            yield running, found[0]
        finally:
            running.kill()


def wait_until_ready(url: str) -> None:
    for _ in range(1200):
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("not ready")


def body_of(data: bytes) -> dict:
    return {"items": [{"image": base64.b64encode(data).decode(), "texts": ["A dog."]}]}


async def test_a_crowd_of_connections_all_get_a_score_or_a_429(server, image):
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=server[1], limits=limits, timeout=60) as client:
        posts = [client.post("/sentence_reward", json=body_of(image(n))) for n in range(200)]
        responses = await asyncio.gather(*posts)
    statuses = {response.status_code for response in responses}
    assert 200 in statuses
    assert statuses <= {200, 429}
    assert all("retry-after" in each.headers for each in responses if each.status_code == 429)


async def test_a_body_that_is_too_large_is_answered_and_not_cut_off(server):
    async with httpx.AsyncClient(base_url=server[1], timeout=60) as client:
        large = await client.post("/token_reward", content=b"x" * 20_000_000)
        after = await client.get("/healthz")
    assert (large.status_code, after.status_code) == (413, 200)
    assert large.json()["error"]["code"] == "payload_too_large"


async def test_callers_who_leave_free_their_places(server):
    host, port = server[1].removeprefix("http://").split(":")
    lines = [await asyncio.open_connection(host, int(port)) for _ in range(8)]
    for _, writer in lines:
        writer.write(b"POST /ground HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
    async with httpx.AsyncClient(base_url=server[1]) as client:
        await status_becomes(client, 429)
        for _, writer in lines:
            writer.close()
            await writer.wait_closed()
        await status_becomes(client, 200)


async def status_becomes(client: httpx.AsyncClient, status: int) -> None:
    for _ in range(1200):
        response = await client.post("/perplexity", json={"items": [{"texts": ["a"]}]})
        if response.status_code == status:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"never {status}")


async def test_a_signal_ends_the_process_cleanly(server):
    running, url = server
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/healthz")).status_code == 200
    running.send_signal(signal.SIGTERM)
    assert running.wait(10) == 0


@pytest.fixture
def quiet_logs() -> Iterator[None]:
    """Undoes what `main` does to the logs of the process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("quiet_logs")
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--similarity", "foo:bar"], "foo:bar"),
        (["--similarity", "hf:/nowhere"], "/nowhere"),
        (["--max-batch-items", "0"], "--max-batch-items"),
        (["--profile", "/nowhere.json"], "/nowhere.json"),
        (["--api-key-file", "/nowhere"], "--api-key-file: /nowhere"),
        (["--host", "192.0.2.1"], "192.0.2.1:0"),
    ],
)
def test_what_cannot_be_served_ends_in_one_line_and_status_2(flags, message, capsys):
    assert main(["--port", "0", *FAKES, *flags]) == 2
    written = capsys.readouterr().err.splitlines()
    assert written[-1].startswith("sightline serve: ")
    assert message in written[-1]


@pytest.mark.usefixtures("quiet_logs")
def test_a_model_that_fails_to_load_ends_the_service_with_status_2(monkeypatch, capsys):
    def fail(reference, **place):
        raise ModelLoadError("the weights are cut short: copy them again")

    monkeypatch.setattr("sightline_service.loading.load_detector", fail)
    assert main(["--port", "0", *FAKES]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "sightline serve: the weights are cut short: copy them again"


def test_a_port_that_is_taken_is_named():
    with listen("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(ListenError, match=f"127.0.0.1:{port}"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")]
)
def test_the_address_can_be_opened_by_a_browser(host, shown):
    try:
        listener = listen(host, 0)
    except (ListenError, OSError):
        pytest.skip("no IPv6 here")
    with listener:
        assert url_of(listener) == f"http://{shown}:{listener.getsockname()[1]}"
