"""A fake service behind a real socket, for what must cross a process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from sightline.testing import FakeService


@dataclass(frozen=True)
class LiveService:
    url: str
    fake: FakeService


@contextmanager
def listening(fake: FakeService) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = f"http://{self.headers['Host']}{self.path}"
            asked = dict(self.headers.items())
            response = fake.handle_request(
                httpx.Request(self.command, url, headers=asked, content=body)
            )
            self.send_response(response.status_code)
            headers = {**response.headers, "content-length": str(len(response.content))}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(response.content)

        do_GET = do_POST = do_PUT = do_HEAD = answer  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that hangs up is no fault of the server

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def live() -> Iterator[LiveService]:
    fake = FakeService(cosine=lambda image, text: 0.33 if "dog" in text else 0.07)
    with listening(fake) as url:
        yield LiveService(url, fake)
