"""Prometheus metrics of one application; each has a registry of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from brinkbyte.license.modes import LicenseMode

if TYPE_CHECKING:
    from brinkbyte.instance.container import Instance


class Metrics:
    """Counters that endpoints and background jobs feed."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "brinkbyte_instance_request_seconds",
            "Time to answer a request, by route template and status",
            ["method", "route", "status"],
            registry=self.registry,
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
        )
        self.metered = Counter(
            "brinkbyte_instance_metered_calls",
            "Metered calls answered, by operation; replayed ones did no work",
            ["operation", "replayed"],
            registry=self.registry,
        )
        self.untracked = Counter(
            "brinkbyte_instance_untracked_calls",
            "Calls answered without an event, as the vendor had switched metering off",
            ["operation"],
            registry=self.registry,
        )
        self.quarantined = Gauge(
            "brinkbyte_instance_quarantined_events",
            "Metered events set aside by the ledger and not billed, by reason",
            ["reason"],
            registry=self.registry,
        )
        self.days_ahead = Gauge(
            "brinkbyte_instance_partition_days_ahead",
            "Days from today that a table has partitions for; below 0 the next row has to make one",
            ["table"],
            registry=self.registry,
        )
        self.table_bytes = Gauge(
            "brinkbyte_instance_table_bytes",
            "Size of a partitioned table with its indexes",
            ["table"],
            registry=self.registry,
        )
        self.job_failures = Counter(
            "brinkbyte_instance_job_failures",
            "Background jobs that ended in an error, by job",
            ["job"],
            registry=self.registry,
        )


class StateCollector(Collector):
    """Live figures, read when they are asked for."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        service, loader = self._instance.license, self._instance.loader
        policy = service.policy()
        mode = GaugeMetricFamily(
            "brinkbyte_instance_license_mode", "1 for the mode in force", labels=["mode"]
        )
        for name in LicenseMode:
            mode.add_metric([name.value], float(policy.decision.mode is name))
        yield mode
        claims = policy.snapshot.license
        if claims is not None:
            yield GaugeMetricFamily(
                "brinkbyte_instance_license_expires_timestamp_seconds",
                "End of the license, grace not included",
                value=claims.exp,
            )
        validations = CounterMetricFamily(
            "brinkbyte_instance_license_validations",
            "Validations by the tier that knew",
            labels=["tier"],
        )
        for tier, count in sorted(service.hits.items()):
            validations.add_metric([tier], count)
        yield validations
        waived = CounterMetricFamily(
            "brinkbyte_instance_waived_refusals",
            "What would have been refused, had the vendor not switched validation off",
            labels=["reason"],
        )
        for reason, count in sorted(service.waived.items()):
            waived.add_metric([reason], count)
        yield waived
        yield CounterMetricFamily(
            "brinkbyte_instance_audit_dropped",
            "Decisions that the audit lacks, as the database was away for too long",
            value=service.audit.dropped,
        )
        yield GaugeMetricFamily(
            "brinkbyte_instance_audit_waiting",
            "Decisions that wait to be written into the audit",
            value=service.audit.waiting,
        )
        yield CounterMetricFamily(
            "brinkbyte_instance_redis_failures",
            "Times Redis did not answer",
            value=self._instance.cache.failures,
        )
        yield GaugeMetricFamily(
            "brinkbyte_instance_devices",
            "Devices with a credential",
            value=len(self._instance.credentials.devices),
        )
        yield GaugeMetricFamily(
            "brinkbyte_instance_camera_seats", "Seats taken", value=policy.cameras_used
        )
        state = loader.state
        yield GaugeMetricFamily(
            "brinkbyte_instance_triton_ready",
            "1 when every licensed model is ready on every pod and no other is loaded",
            value=float(state.ready),
        )
        yield GaugeMetricFamily(
            "brinkbyte_instance_triton_missing_models",
            "Licensed models that are not ready everywhere",
            value=len(state.missing),
        )
