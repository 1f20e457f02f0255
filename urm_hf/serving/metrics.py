"""What a server counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """
    The counters of one server. Labels are names of routes and kinds that the server knows, never what a client sent:
    every value of a label is kept for good.

    Attributes:
        registry (`CollectorRegistry`): of this server alone, so that several can run in one process.
    """

    def __init__(self):
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "urm_requests", "Requests answered, by route and status.", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "urm_request_seconds", "From a request to its answer.", ["route"], buckets=_SECONDS, registry=registry
        )
        self.rows = Counter("urm_rows", "Conversations scored, those of the cache included.", registry=registry)
        self.cached = Counter("urm_cached_rows", "Conversations whose score was known.", registry=registry)
        self.steps = Counter("urm_steps", "Times that the model was run.", registry=registry)
        self.step_requests = Counter("urm_step_requests", "Requests that these steps answered.", registry=registry)
        self.step_tokens = Counter(
            "urm_step_tokens", "Tokens of these steps, common prefixes once.", registry=registry
        )
        self.queued_tokens = Gauge("urm_queued_tokens", "Tokens that wait to be scored.", registry=registry)
        self.repairs = Counter(
            "urm_repairs",
            "Texts of frameworks that were repaired, by route and kind.",
            ["route", "kind"],
            registry=registry,
        )
        self.unscorable = Counter(
            "urm_unscorable_rows", "Conversations that could not be scored, by route.", ["route"], registry=registry
        )
        self.dropped = Counter("urm_dropped_requests", "Requests whose client went away.", registry=registry)

    def write(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
