"""Counters of this process, in Prometheus' text format at `/metrics`. Names and labels are part of
the interface of operators.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tokenwire.config.metrics import REGISTRY

_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)


class Metrics:
    """An own registry, so that several apps in one process (tests) do not share counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(REGISTRY)
        self.requests = Counter(
            "tokenwire_http_requests",
            "Requests answered",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "tokenwire_http_request_seconds",
            "From request to end of answer",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.posts = Counter("tokenwire_posts", "User messages accepted", registry=self.registry)
        self.streams = Gauge(
            "tokenwire_http_streams", "Streamed answers that are open now", registry=self.registry
        )
        self.refused = Counter(
            "tokenwire_refused",
            "Requests refused before they were read",
            ["code"],
            registry=self.registry,
        )
        self.counted_alone = Counter(
            "tokenwire_rates_counted_alone",
            "Posts counted by this process alone, since Redis was away",
            registry=self.registry,
        )
        self.undelivered = Counter(
            "tokenwire_posts_undelivered",
            "Posts whose announcement or job Redis did not take at once",
            ["step"],
            registry=self.registry,
        )

    def text(self) -> bytes:
        """All metrics, with the counters of every process, in Prometheus' format."""
        return generate_latest(self.registry)
