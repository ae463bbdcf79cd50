"""A way to a service on which replies are cut, lost, spoilt or refused. Knows HTTP by the byte."""

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

HOP_BY_HOP = {"host", "connection", "content-length", "transfer-encoding", "keep-alive"}


@dataclass(frozen=True)
class Step:
    """What happens to one exchange; nothing, by default.

    Attributes:
        cut_at: the reply, head and body, ends after so many bytes, and so does the connection.
        replaced_by: the reply's body is another one.
        refused_with: the service is not asked: status, content type and body of the answer.
    """

    cut_at: int | None = None
    replaced_by: Callable[[bytes], bytes] | None = None
    refused_with: tuple[int, str, bytes] | None = None


PASS = Step()
Plan = Callable[[int], Step]


@dataclass
class BadRoad:
    """Forwards to `target` as `plan` says, which is asked with the number of the exchange.

    `answers` keeps, for each question that reached the service, all that it answered.
    """

    target: str
    plan: Plan = lambda number: PASS
    answers: dict[bytes, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    exchanges: int = 0

    def __enter__(self) -> "BadRoad":
        self._lock = threading.Lock()
        self._http = httpx.Client(base_url=self.target, timeout=60, trust_env=False)
        handler = type("Handler", (_Handler,), {"road": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._http.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def next_step(self) -> Step:
        with self._lock:
            number, self.exchanges = self.exchanges, self.exchanges + 1
        return self.plan(number)

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        response = self._http.request(method, path, headers=headers, content=body)
        if response.status_code == 200 and body:
            with self._lock:
                self.answers[body].append(response.content)
        return response


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    road: BadRoad

    def do_POST(self) -> None:
        step = self.road.next_step()
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if step.refused_with:
            status, content_type, content = step.refused_with
            self._write(status, {"content-type": content_type}, content, None)
            return
        headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
        reply = self.road.ask(self.command, self.path, headers, body)
        content = step.replaced_by(reply.content) if step.replaced_by else reply.content
        kept = {k: v for k, v in reply.headers.items() if k.lower() not in HOP_BY_HOP}
        self._write(reply.status_code, kept, content, step.cut_at)

    do_GET = do_PUT = do_HEAD = do_POST  # noqa: N815 - http.server's names

    def _write(
        self, status: int, headers: dict[str, str], content: bytes, cut_at: int | None
    ) -> None:
        lines = [f"HTTP/1.1 {status} X", *(f"{k}: {v}" for k, v in headers.items())]
        lines.append(f"content-length: {len(content)}")
        whole = "\r\n".join([*lines, "", ""]).encode() + content
        if cut_at is not None:
            self.close_connection = True
        self.wfile.write(whole[:cut_at])

    def log_message(self, *_: object) -> None:
        """Says nothing."""
