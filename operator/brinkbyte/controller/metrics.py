"""Prometheus metrics of the operator; one registry for each operator, so tests can have several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from brinkbyte.resources.conditions import Condition

_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ConditionCollector(Collector):
    """The current status of each condition of each resource.

    A gauge for each would take a kilobyte: with ten thousand cameras, more than everything else.
    """

    def __init__(self) -> None:
        self._shown: dict[tuple[str, str, str], tuple[tuple[str, str], ...]] = {}
        self._alike: dict[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]] = {}

    def set(self, kind: str, namespace: str, name: str, conditions: Iterable[Condition]) -> None:
        """Take the conditions of a resource as they are now."""
        shown = tuple((str(each.type), str(each.status)) for each in conditions)
        self._shown[kind, namespace, name] = self._alike.setdefault(shown, shown)

    def forget(self, kind: str, namespace: str, name: str) -> None:
        """Forget a resource."""
        self._shown.pop((kind, namespace, name), None)

    def collect(self) -> Iterator[Metric]:
        """Yield one series for each condition."""
        metric = GaugeMetricFamily(
            "brinkbyte_resource_condition",
            "1 for the current status of each condition of each resource.",
            labels=("kind", "namespace", "name", "type", "status"),
        )
        for resource, shown in list(self._shown.items()):
            for kind, status in shown:
                metric.add_metric((*resource, kind, status), 1.0)
        yield metric


class Metrics:
    """What the operator counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "brinkbyte_operator_kubernetes_requests",
            "Requests to the Kubernetes API by verb and kind.",
            ("verb", "kind"),
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "brinkbyte_operator_reconcile_seconds",
            "Time of one reconcile.",
            ("what", "result"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "brinkbyte_operator_queue_depth",
            "Keys that are due and wait for a worker.",
            registry=self.registry,
        )
        self.running = Gauge(
            "brinkbyte_operator_reconciles_running",
            "Reconciles at work.",
            registry=self.registry,
        )
        self.billing_calls = Counter(
            "brinkbyte_operator_billing_calls",
            "Calls to the billing API by operation and result.",
            ("operation", "result"),
            registry=self.registry,
        )
        self.drift = Counter(
            "brinkbyte_operator_drift_repaired",
            "Children that were changed or deleted by somebody else and put right.",
            ("kind",),
            registry=self.registry,
        )
        self.conditions = ConditionCollector()
        self.registry.register(self.conditions)
        self.backlog = Gauge(
            "brinkbyte_tenant_metering_backlog",
            "Usage events of a Tenant without a receipt.",
            ("namespace", "name"),
            registry=self.registry,
        )
        self.license_expiry = Gauge(
            "brinkbyte_tenant_license_expiry_timestamp_seconds",
            "When the newest license of a Tenant ends.",
            ("namespace", "name"),
            registry=self.registry,
        )
        self.used = Gauge(
            "brinkbyte_tenant_used",
            "Devices and camera seats in use.",
            ("namespace", "name", "what"),
            registry=self.registry,
        )

    def condition_of(
        self, kind: str, namespace: str, name: str, conditions: Iterable[Condition]
    ) -> None:
        """Show the conditions of a resource as they are now."""
        self.conditions.set(kind, namespace, name, conditions)

    def forget(self, kind: str, namespace: str, name: str) -> None:
        """Show a resource that is gone no longer."""
        self.conditions.forget(kind, namespace, name)
        if kind == "Tenant":
            self._remove(self.backlog, namespace, name)
            self._remove(self.license_expiry, namespace, name)
            for what in ("devices", "cameras"):
                self._remove(self.used, namespace, name, what)

    @staticmethod
    def _remove(gauge: Gauge, *labels: str) -> None:
        # By its labels: a search would look through the series of every other resource.
        with suppress(KeyError):
            gauge.remove(*labels)
