"""The caller's trace goes along with its question, from whatever thread that is sent."""

import sys

import pytest

from sightline.config import ClientConfig
from sightline.exchange import Exchange
from sightline.trace_context import trace_headers
from sightline_proto import PERPLEXITY, PerplexityItem, PerplexityRequest

QUESTION = PerplexityRequest(items=(PerplexityItem(texts=("A dog.",)),))


def test_without_opentelemetry_nothing_is_sent(monkeypatch):
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)
    assert trace_headers() == {}


def test_the_current_span_is_the_services_parent():
    trace = pytest.importorskip("opentelemetry.trace")
    assert trace_headers() == {}, "no span is current"
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1))
    exchange = Exchange(ClientConfig(base_urls=("http://x",)))
    with trace.use_span(trace.NonRecordingSpan(context)):
        [flow] = exchange.ask(PERPLEXITY, QUESTION)
        strict = exchange.ask_one(PERPLEXITY, QUESTION)
    for each in (flow, strict):
        request = next(each)  # outside of the span, as on a thread of a pool
        assert request.headers["traceparent"] == f"00-{0xABC:032x}-{0xDEF:016x}-01"
    [flow] = exchange.ask(PERPLEXITY, QUESTION)
    assert "traceparent" not in next(flow).headers
