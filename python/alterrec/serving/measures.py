"""What the HTTP service counts, in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_SESSIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Measures:
    """The counters of one service.

    Args:
        waiting: function that returns the number of sessions that wait for the model.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        own = self._registry = CollectorRegistry()
        self.requests = Counter(
            "alterrec_requests", "Requests by path and status.", ("path", "status"), registry=own
        )
        self.seconds = Histogram(
            "alterrec_request_seconds",
            "Time from the headers of a request to the end of its answer.",
            ("path",),
            buckets=_SECONDS,
            registry=own,
        )
        self.batches = Histogram(
            "alterrec_batch_sessions",
            "Sessions that were computed together.",
            buckets=_SESSIONS,
            registry=own,
        )
        self.unknown = Counter(
            "alterrec_unknown_items", "Items of sessions that the run does not know.", registry=own
        )
        self.popular = Counter(
            "alterrec_popular_answers", "Sessions without a known item, answered by popularity.", registry=own
        )
        self.reloads = Counter(
            "alterrec_reloads", "Reloads by outcome: done or failed.", ("outcome",), registry=own
        )
        for outcome in ("done", "failed"):
            self.reloads.labels(outcome)
        Gauge("alterrec_waiting_sessions", "Sessions that wait for the model.", registry=own).set_function(
            waiting
        )
        self.loaded = Gauge(
            "alterrec_run_loaded_timestamp_seconds", "When the run that answers was loaded.", registry=own
        )
        self.items = Gauge("alterrec_items", "Size of the catalogue of the run that answers.", registry=own)
        ProcessCollector(registry=own)
        PlatformCollector(registry=own)

    def text(self) -> bytes:
        """Return all values in the text format."""
        return generate_latest(self._registry)
