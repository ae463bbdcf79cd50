"""Traces from the caller's header to the batch, and out to a collector on a real socket."""

import base64
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from sightline_service.app import create_app
from sightline_service.models.fake import FakeDetector, FakePerplexity, FakeSimilarity
from sightline_service.served import Models
from sightline_service.settings import Settings
from sightline_service.tracing import FinishedTrace, TraceContext

pytestmark = pytest.mark.anyio

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE_ID}-{PARENT_ID}-01"


@pytest.mark.parametrize(
    ("header", "trace_id", "parent_id", "sampled"),
    [
        (GIVEN, TRACE_ID, PARENT_ID, True),
        (f"00-{TRACE_ID}-{PARENT_ID}-00", TRACE_ID, PARENT_ID, False),
        (f"cc-{TRACE_ID}-{PARENT_ID}-01-what-the-future-brings", TRACE_ID, PARENT_ID, True),
    ],
)
def test_the_callers_trace_is_joined(header, trace_id, parent_id, sampled):
    assert TraceContext.read(header) == TraceContext(trace_id, parent_id, sampled)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        GIVEN.upper(),
        f"ff-{TRACE_ID}-{PARENT_ID}-01",
        f"00-{'0' * 32}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{PARENT_ID}",
    ],
)
def test_a_malformed_header_begins_a_trace_of_its_own(header):
    context = TraceContext.read(header)
    assert context.parent_id is None
    assert context.trace_id != TRACE_ID
    assert len(context.trace_id) == 32


async def ask(image: bytes, *headers: dict[str, str], path: str = "/sentence_reward") -> list:
    """What is exported for one request for each of the headers."""
    exported: list[FinishedTrace] = []
    models = Models(FakeSimilarity(), FakeDetector(), FakePerplexity())
    app = create_app(Settings(), models, export=exported.append)
    picture = base64.b64encode(image).decode()
    body = {"items": [{"image": picture, "texts": ["A dog.", "A cat runs."]}]}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client,
    ):
        for each in headers:
            assert (await client.post(path, json=body, headers=each)).status_code in (200, 422)
        await client.get("/readyz", headers={"traceparent": GIVEN})
        await client.get("/nowhere")
    return exported


async def test_a_request_is_traced_from_its_header_to_the_batch_and_back(image):
    [finished] = await ask(image(), {"traceparent": GIVEN, "x-request-id": "mine"})
    trace = finished.trace
    assert (trace.context.trace_id, trace.context.parent_id) == (TRACE_ID, PARENT_ID)
    assert trace.name == "POST sentence_reward"
    assert finished.attributes["http.response.status_code"] == 200
    assert finished.attributes["sightline.request_id"] == "mine"
    names = [span.name for span in trace.spans]
    assert set(names) == {"parse", "prepare", "queue", "forward", "finish"}
    forwards = {span.attributes["lane"]: span for span in trace.spans if span.name == "forward"}
    assert forwards["images"].attributes["batch_size"] == 1
    assert forwards["texts"].attributes["batch_size"] == 2
    for span in trace.spans:
        assert trace.started <= span.started <= span.ended <= finished.ended
    queues = [span for span in trace.spans if span.name == "queue"]
    assert all(queue.ended == forwards[queue.attributes["lane"]].started for queue in queues)
    assert "dog" not in repr(trace), "traces hold no captions"


async def test_what_the_caller_does_not_sample_is_not_recorded(image):
    assert await ask(image(), {"traceparent": GIVEN.removesuffix("1") + "0"}) == []


async def test_a_refused_request_is_traced_too(image):
    [finished] = await ask(image(), {}, path="/ground")
    assert finished.attributes["http.response.status_code"] == 422
    assert finished.trace.context.parent_id is None


@pytest.fixture
def collector():
    """The URL of an OTLP collector and what it was sent."""
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", received
        server.shutdown()
        thread.join()


async def test_a_collector_receives_the_spans_under_the_callers(image, collector):
    pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from sightline_service.otlp import OtlpExporter

    endpoint, received = collector
    exporter = OtlpExporter(endpoint)
    for finished in await ask(image(), {"traceparent": GIVEN}, {}):
        exporter(finished)
    exporter.close()
    spans = [
        span
        for body in received
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]
    joined = [span for span in spans if span.trace_id.hex() == TRACE_ID]
    [root] = [span for span in joined if span.parent_span_id.hex() == PARENT_ID]
    assert root.name == "POST sentence_reward"
    below = [span for span in joined if span.parent_span_id == root.span_id]
    assert {span.name for span in below} == {"parse", "prepare", "queue", "forward", "finish"}
    assert len(below) + 1 == len(joined)
    for span in below:
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
    alone = [span for span in spans if span.trace_id.hex() != TRACE_ID]
    assert len({span.trace_id for span in alone}) == 1
    assert [span.name for span in alone if not span.parent_span_id] == ["POST sentence_reward"]
