"""What `/metrics` shows of the service; no text of anybody, and nothing by person."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)


class Metrics:
    """Counts of one service.

    Args:
        n_waiting: gives how many requests wait.
    """

    def __init__(self, n_waiting: Callable[[], int]) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("pege_requests", "Requests of the API by status.", ["status"], registry=registry)
        self.responses = Counter("pege_responses", "Responses by how they ended.", ["outcome"], registry=registry)
        self.fixed = Counter("pege_fixed_texts", "Responses that were the fixed text.", registry=registry)
        self.refused = Counter("pege_refused_responses", "Responses that the filter cut.", registry=registry)
        self.tokens = Counter("pege_tokens", "Tokens generated.", registry=registry)
        self.first = Histogram("pege_first_text_seconds", "Arrival to first text.", registry=registry, buckets=_SECONDS)
        self.whole = Histogram("pege_response_seconds", "Arrival to the end.", registry=registry, buckets=_SECONDS)
        Gauge("pege_waiting", "Requests that wait.", registry=registry).set_function(n_waiting)

    def text(self) -> bytes:
        """Give all in Prometheus' text format."""
        return bytes(generate_latest(self.registry))
