"""Traces leave by OpenTelemetry's protocol. Knows its SDK, which the extra `otel` brings."""

import time

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    set_span_in_context,
)

from sightline_service.tracing import FinishedTrace, TraceContext
from sightline_service.version import VERSION


class _GivenTraceId(IdGenerator):
    """Gives a root span the trace id that the request already has."""

    def __init__(self) -> None:
        self.trace_id = 0
        self._random = RandomIdGenerator()

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self._random.generate_span_id()


class OtlpExporter:
    """Sends finished traces to a collector, in the background and in batches.

    Args:
        endpoint: the collector's URL for traces, such as http://collector:4318/v1/traces.
    """

    def __init__(self, endpoint: str) -> None:
        self._ids = _GivenTraceId()
        resource = Resource.create({SERVICE_NAME: "sightline", SERVICE_VERSION: VERSION})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        self._tracer = self._provider.get_tracer("sightline_service", VERSION)

    def __call__(self, finished: FinishedTrace) -> None:
        """Hands one trace over; never waits for the collector."""
        trace = finished.trace
        self._ids.trace_id = int(trace.context.trace_id, 16)
        offset = time.time() - time.monotonic()
        root = self._tracer.start_span(
            trace.name,
            context=_parent(trace.context),
            kind=SpanKind.SERVER,
            attributes=finished.attributes,
            start_time=_nanoseconds(trace.started + offset),
        )
        below = set_span_in_context(root)
        for span in list(trace.spans):
            child = self._tracer.start_span(
                span.name,
                context=below,
                attributes=span.attributes,
                start_time=_nanoseconds(span.started + offset),
            )
            child.end(_nanoseconds(span.ended + offset))
        root.end(_nanoseconds(finished.ended + offset))

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()


def _parent(context: TraceContext) -> Context:
    if context.parent_id is None:
        return Context()
    ids = int(context.trace_id, 16), int(context.parent_id, 16)
    remote = SpanContext(*ids, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(remote), Context())


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
