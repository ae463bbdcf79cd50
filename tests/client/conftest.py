"""Fake services: one behind a real socket, for what must cross a process, others by hand."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from sightline.config import ClientConfig
from sightline.delivery import Delivery, Pause
from sightline.exchange import Exchange
from sightline.testing import FakeService
from sightline_proto import TOKEN_REWARD, Image, TokenRewardItem, TokenRewardRequest

A = "http://a"


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


def batch_of(*images: bytes | Image, text: str = "A dog and a cat.") -> TokenRewardRequest:
    return TokenRewardRequest(
        items=tuple(
            TokenRewardItem(
                id=str(number),
                image=image if isinstance(image, Image) else Image(image),
                texts=(text,),
            )
            for number, image in enumerate(images)
        )
    )


@pytest.fixture
def batch() -> Callable[..., TokenRewardRequest]:
    """Asks about images, each in an item of its own, with one text."""
    return batch_of


class Driver:
    """Runs flows against one fake service per URL, on a clock of its own."""

    def __init__(self, *urls: str, answer_s: float = 0.0, **config) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []
        self.services = {url: FakeService() for url in urls or (A,)}
        self.asked: list[str] = []
        self.answer_s = answer_s
        options = {"timeout_s": 60.0, "wire": "json", **config}
        settings = ClientConfig(base_urls=tuple(self.services), **options)
        delivery = Delivery(settings, clock=lambda: self.now, draw=lambda: 0.5)
        self.exchange = Exchange(settings, delivery)

    @property
    def service(self) -> FakeService:
        return self.services[A]

    def run(self, flow):
        outcome = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                return end.value
            outcome = self.perform(step)

    def perform(self, step):
        if isinstance(step, Pause):
            self.pauses.append(step.seconds)
            self.now += step.seconds
            return None
        self.now += self.answer_s
        url = f"{step.url.scheme}://{step.url.host}"
        self.asked.append(url)
        try:
            response = self.services[url].handle_request(step)
        except httpx.TransportError as error:
            return error
        response.request = step
        return response

    def send(self, request):
        parts = [self.run(flow) for flow in self.exchange.ask(TOKEN_REWARD, request)]
        return self.exchange.join(parts)

    def score(self, *images: bytes | Image):
        return self.send(batch_of(*images))

    def sent(self, number: int = -1, url: str = A) -> list[str]:
        """Images of one request: bytes as text, or the first letters of the hash."""
        items = json.loads(self.services[url].requests[number].content)["items"]
        images = [Image(item["image"]) for item in items]
        return [f"#{i.sha256[:4]}" if i.sha256 else i.decode().decode() for i in images]


@pytest.fixture
def drive() -> type[Driver]:
    """Starts to drive flows by hand: `drive(*urls, answer_s=..., **config)`."""
    return Driver
