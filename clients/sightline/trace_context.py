"""The caller's trace, for the service to join. Knows OpenTelemetry where it is loaded."""

import sys


def trace_headers() -> dict[str, str]:
    """Returns `traceparent` for the caller's current span; nothing where there is none.

    Whoever traces has loaded OpenTelemetry's API; whoever has not pays nothing.
    Source: W3C Trace Context, section 3.2.
    """
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return {}
    context = api.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    ids = f"{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    return {"traceparent": f"00-{ids}"}
