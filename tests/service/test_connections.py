"""Connections that hold still, against uvicorn on a real socket."""

import asyncio
import ssl
import subprocess
import time
from contextlib import asynccontextmanager

import httpx
import pytest

from sightline_service.app import create_app
from sightline_service.models.fake import FakePerplexity
from sightline_service.served import Models
from sightline_service.server import DrainingServer, listen
from sightline_service.settings import Settings

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def serving(**options: object):
    """The real server on this event loop; yields its port."""
    settings = Settings(**options)
    server = DrainingServer(create_app(settings, Models(perplexity=FakePerplexity())), settings)
    listener = listen("127.0.0.1", 0)
    task = asyncio.create_task(server.serve([listener]))
    while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
        await asyncio.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def seconds_until_closed(port: int, *pieces: bytes, every_s: float = 0.05) -> float:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.monotonic()
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(every_s)
            if reader.at_eof():
                break
        await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()
    return time.monotonic() - started


@pytest.mark.parametrize(
    "pieces", [[], [b"GET / HT"], [b"G", b"E", b"T", b" ", b"/"] + [b"x"] * 20], ids=len
)
async def test_a_head_that_does_not_end_is_not_waited_for(pieces):
    async with serving(head_timeout_s=0.3) as port:
        assert 0.25 < await seconds_until_closed(port, *pieces) < 2


async def test_the_second_head_on_a_connection_has_the_same_time():
    ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    async with serving(head_timeout_s=0.3) as port:
        assert await seconds_until_closed(port, ask, b"", b"", b"", b"", b"GE", every_s=0.1) > 0.5
        assert await seconds_until_closed(port, ask + b"GE") < 2


async def test_a_slow_answer_on_a_fast_head_is_not_cut_off():
    async with serving(head_timeout_s=0.1) as port, httpx.AsyncClient() as client:

        async def slowly():
            yield b'{"items":'
            await asyncio.sleep(0.4)
            yield b'[{"texts":["a"]}]}'

        answer = await client.post(f"http://127.0.0.1:{port}/perplexity", content=slowly())
        assert answer.status_code == 200
        await asyncio.sleep(0.3)
        assert (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200


async def test_connections_beyond_the_bound_are_closed_and_the_others_served():
    async with serving(max_connections=3) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        assert await seconds_until_closed(port) < 1
        held[0][1].write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await held[0][0].readline()).startswith(b"HTTP/1.1 200")
        for _, writer in held:
            writer.close()


@pytest.fixture
def certificate(tmp_path):
    """A key and its own certificate for 127.0.0.1."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    made = subprocess.run([*command, "-keyout", key, "-out", cert], capture_output=True)
    if made.returncode:
        pytest.skip("there is no openssl here")
    return key, cert


async def test_with_a_certificate_the_service_speaks_https(certificate):
    key, cert = certificate
    async with serving(tls_cert_file=cert, tls_key_file=key) as port:
        context = ssl.create_default_context(cafile=str(cert))
        async with httpx.AsyncClient(verify=context) as client:
            answer = await client.get(f"https://127.0.0.1:{port}/healthz")
    assert answer.json() == {"status": "ok"}


async def replies(port: int, *requests: bytes) -> bytes:
    """What comes back for requests that are sent one after the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in requests:
        writer.write(request)
        await asyncio.sleep(0.1)
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


async def test_a_head_without_end_is_refused_however_fast_it_comes():
    async with serving(head_timeout_s=5) as port:
        endless = b"GET /healthz HTTP/1.1\r\nx-long: " + b"a" * 100_000
        assert await seconds_until_closed(port, endless) < 1
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(endless)
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
        writer.close()


async def test_an_offer_of_another_protocol_is_passed_over_and_the_body_read():
    body = b'{"items":[{"texts":["a"]}]}'
    head = b"POST /perplexity HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(body)
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUPGRADE: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n"
    async with serving() as port:
        answered = await replies(port, head + offer + body, head + b"\r\n" + body)
    assert answered.count(b"HTTP/1.1 200") == 2
    assert answered.count(b'"perplexity":') == 4  # of each text and of its one sentence


async def test_requests_that_do_not_wait_for_answers_get_them_in_order():
    body = b'{"items":[{"texts":["a"]}]}'
    post = b"POST /perplexity HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    async with serving(head_timeout_s=0.3) as port:
        answered = await replies(port, post + get + post + get[:20], get[20:])
    assert answered.count(b"HTTP/1.1 200") == 4
    assert answered.index(b'"perplexity"') < answered.index(b'"status"')
