"""Where a request's time goes, span by span. Knows W3C trace context; knows no HTTP, no exporter.

The caller names its trace in the header `traceparent`; what happens to the request here (reading
its body, decoding, waiting for a batch, the batch itself, writing the reply) becomes spans below
the caller's. Without somebody to export them to, nothing is recorded.
"""

import re
import secrets
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal, Self

Attribute = str | int | float
SpanName = Literal["parse", "prepare", "queue", "forward", "finish"]

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Which trace a request belongs to, and below which of its spans."""

    trace_id: str
    parent_id: str | None
    sampled: bool = True

    @classmethod
    def read(cls, traceparent: str) -> Self:
        """Reads the header; one that is missing or malformed begins a trace of its own.

        Source: W3C Trace Context, section 3.2.
        """
        found = _TRACEPARENT.fullmatch(traceparent.strip())
        if found is None or traceparent.startswith("ff") or not int(found[1], 16):
            return cls(secrets.token_hex(16), None)
        parent = found[2] if int(found[2], 16) else None
        return cls(found[1], parent, bool(int(found[3], 16) & _SAMPLED))


@dataclass(frozen=True, slots=True)
class Span:
    """One stretch of a request's time; seconds of the monotonic clock."""

    name: SpanName
    started: float
    ended: float
    attributes: dict[str, Attribute] = field(default_factory=dict[str, Attribute])


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One request as it happened; `spans` lie below the request's own, which has `span_id`."""

    context: TraceContext
    name: str
    started: float
    spans: list[Span] = field(default_factory=list[Span])
    span_id: str = field(default_factory=lambda: secrets.token_hex(8))

    def record(self, name: SpanName, started: float, ended: float, **attributes: Attribute) -> None:
        """Adds a span; safe from any thread."""
        self.spans.append(Span(name, started, ended, attributes))


@dataclass(frozen=True, slots=True)
class FinishedTrace:
    """A trace whose request was answered."""

    trace: Trace
    ended: float
    attributes: dict[str, Attribute]


Exporter = Callable[[FinishedTrace], None]

current: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""The trace of the request that the running task works for."""


@contextmanager
def tracing(trace: Trace) -> Generator[None]:
    """Makes `trace` the current one for the block."""
    token = current.set(trace)
    try:
        yield
    finally:
        current.reset(token)
