"""What a service counts, in the form that Prometheus reads."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from stockpot.model.model_file import ModelFile

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Meters:
    """Counters of one service."""

    def __init__(self, model: ModelFile) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        named = {"backbone": model.backbone, "weights": model.fingerprint}
        Gauge("stockpot_model_info", "The model that is served.", list(named), registry=registry).labels(
            **named
        ).set(1)
        self.requests = Counter(
            "stockpot_requests", "Requests answered.", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "stockpot_request_seconds",
            "From a request's first byte read to its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.photos = Counter(
            "stockpot_photos", "Photos by what was said of them.", ["said"], registry=registry
        )
        self.batches = Histogram(
            "stockpot_batch_photos",
            "Photos that went through the model together.",
            buckets=(1, 2, 3, 4),
            registry=registry,
        )
        self.in_work = Gauge(
            "stockpot_requests_in_work", "Requests that are being answered.", registry=registry
        )

    def page(self) -> bytes:
        """Return all of them as text."""
        return generate_latest(self._registry)
