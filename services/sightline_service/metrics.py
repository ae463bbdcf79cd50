"""What is counted and timed, for Prometheus. Knows names and units; knows no HTTP and no models.

One registry per app. Labels hold endpoints, roles, stages and outcomes: never captions, hashes or
request ids. Recorded where batches are cut and where replies leave; numbers that somebody else
owns are read when they are asked for.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from sightline_proto.endpoints import AnyReply
from sightline_service.calls import BatchReport
from sightline_service.preparing import Stage

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

Watched = Literal[
    "requests_in_flight",
    "queue_items",
    "inflight_bytes",
    "batch_queue_items",
    "model_ready",
    "cache_bytes",
    "cache_hits",
    "cache_misses",
    "gpu_memory_bytes",
]
_WATCHED: dict[Watched, tuple[type[CounterMetricFamily | GaugeMetricFamily], str, str | None]] = {
    "requests_in_flight": (GaugeMetricFamily, "Requests in progress.", None),
    "queue_items": (GaugeMetricFamily, "Images and texts in progress.", None),
    "inflight_bytes": (GaugeMetricFamily, "Body bytes in memory.", None),
    "batch_queue_items": (GaugeMetricFamily, "Prepared inputs that wait for a batch.", "model"),
    "model_ready": (
        GaugeMetricFamily,
        "1 where the model is loaded and its worker lives.",
        "model",
    ),
    "cache_bytes": (GaugeMetricFamily, "Bytes held.", "cache"),
    "cache_hits": (CounterMetricFamily, "Look-ups that found something.", "cache"),
    "cache_misses": (CounterMetricFamily, "Look-ups that found nothing.", "cache"),
    "gpu_memory_bytes": (GaugeMetricFamily, "Memory of all CUDA devices.", "state"),
}


@dataclass(slots=True, eq=False)
class _Readings(Collector):
    """Reads watched numbers at the time of the scrape."""

    reads: dict[tuple[Watched, str], Callable[[], float]]

    def collect(self) -> Iterable[Metric]:
        for name, (family_type, help_text, label) in _WATCHED.items():
            family = family_type(f"sightline_{name}", help_text, labels=[label] if label else [])
            for (watched, value), read in self.reads.items():
                if watched == name:
                    family.add_metric([value] if label else [], read())
            yield family


class Metrics:
    """The meters of one app."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._readings = _Readings({})
        self._registry.register(self._readings)
        ProcessCollector(registry=self._registry)
        requests = self._counter("requests", "Requests answered.", "endpoint", "outcome")
        self._rejected = self._counter("rejected", "Requests refused at the door.", "reason")
        items = self._counter(
            "items", "Items answered, by error code or ok.", "endpoint", "outcome"
        )
        truncated = self._counter(
            "truncated_texts", "Texts cut at the model's context length.", "endpoint"
        )
        self._batch_cost = self._counter(
            "batch_cost", "Pixels or tokens passed through, padding included.", "model", "lane"
        )
        self._batch_retries = self._counter(
            "batch_retries", "Forward passes over halves of failed batches.", "model", "lane"
        )
        self._batch_size = self._histogram(
            "batch_size", "Inputs in one forward pass.", "model", "lane", buckets=_SIZES
        )
        request_seconds = self._histogram(
            "request_duration_seconds", "From first byte in to last byte out.", "endpoint"
        )
        self._queue_wait = self._histogram(
            "queue_wait_seconds", "How long a prepared input waited.", "model", "lane"
        )
        self._stage_seconds = self._histogram(
            "stage_duration_seconds", "Parse, prepare, finish, or one forward pass.", "stage"
        )
        # Every request looks its meters up: prometheus_client's own way takes a lock each time.
        self._requests_of = cache(requests.labels)
        self._items_of = cache(items.labels)
        self._truncated_of = cache(truncated.labels)
        self._request_seconds_of = cache(request_seconds.labels)
        self._stages = {stage: self._stage_seconds.labels(stage) for stage in get_args(Stage)}
        self._load_seconds = Gauge(
            "sightline_model_load_seconds",
            "Time to load a model.",
            ("model",),
            registry=self._registry,
        )

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"sightline_{name}", help_text, labels, registry=self._registry)

    def _histogram(
        self, name: str, help_text: str, *labels: str, buckets: Sequence[float] = _SECONDS
    ) -> Histogram:
        return Histogram(
            f"sightline_{name}", help_text, labels, buckets=buckets, registry=self._registry
        )

    def observe_reply(self, endpoint: str, outcome: str, seconds: float) -> None:
        """Counts one answered request; `outcome` is "ok" or an error code."""
        self._requests_of(endpoint, outcome).inc()
        self._request_seconds_of(endpoint).observe(seconds)

    def observe_rejection(self, reason: str) -> None:
        """Counts one request that was refused for lack of room."""
        self._rejected.labels(reason).inc()

    def observe_items(self, endpoint: str, reply: AnyReply) -> None:
        """Counts the items of one reply, and the texts that were cut."""
        for item in reply.items:
            self._items_of(endpoint, item.error.code if item.error else "ok").inc()
        self._truncated_of(endpoint).inc(reply.usage.truncated)

    def observe_stage(self, stage: Stage, seconds: float) -> None:
        """Times one piece of CPU work."""
        self._stages[stage].observe(seconds)

    def observe_batch(self, model: str, report: BatchReport) -> None:
        """Records one batch."""
        self._batch_size.labels(model, report.lane).observe(report.size)
        self._batch_cost.labels(model, report.lane).inc(report.cost)
        self._batch_retries.labels(model, report.lane).inc(report.retries)
        self._stage_seconds.labels("forward").observe(report.forward_s)
        queue_wait = self._queue_wait.labels(model, report.lane)
        for wait in report.waits_s:
            queue_wait.observe(wait)

    def observe_load(self, model: str, seconds: float) -> None:
        """Records how long a model took to load."""
        self._load_seconds.labels(model).set(seconds)

    def watch(self, name: Watched, read: Callable[[], float], label: str = "") -> None:
        """Exposes a number that somebody else owns as `sightline_<name>`."""
        self._readings.reads[name, label] = read

    def render(self) -> bytes:
        """Returns everything in Prometheus' text format."""
        return generate_latest(self._registry)
