"""Counters of this process, for Prometheus and ``/stats``."""

from __future__ import annotations

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


@dataclass(frozen=True)
class Metrics:
    """One registry a server, so that several can live in one test process."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    batches: Counter = field(init=False)
    events: Counter = field(init=False)
    tokens: Counter = field(init=False)
    inventories: Counter = field(init=False)
    requests: Histogram = field(init=False)
    key_set_end: Gauge = field(init=False)
    ledger_end: Gauge = field(init=False)
    clone_alarms: Counter = field(init=False)
    clone_alarms_open: Gauge = field(init=False)
    key_set_number: Gauge = field(init=False)
    key_set_instances: Gauge = field(init=False)
    old_key_needed: Gauge = field(init=False)

    provider_invoices: Counter = field(init=False)
    provider_alarms: Counter = field(init=False)
    webhooks: Counter = field(init=False)

    def __post_init__(self) -> None:
        """Register everything."""
        made: dict[str, Counter | Gauge | Histogram] = {
            "batches": Counter(
                "brinkbyte_billing_batches",
                "Sealed batches, by what became of them",
                ["outcome"],
                registry=self.registry,
            ),
            "events": Counter(
                "brinkbyte_billing_events",
                "Usage events, by what became of them",
                ["outcome"],
                registry=self.registry,
            ),
            "tokens": Counter(
                "brinkbyte_billing_tokens", "Documents signed", ["kind"], registry=self.registry
            ),
            "inventories": Counter(
                "brinkbyte_billing_inventories", "Inventories taken in", registry=self.registry
            ),
            "requests": Histogram(
                "brinkbyte_billing_request_seconds",
                "Time to answer",
                ["method", "path", "status"],
                registry=self.registry,
            ),
            "key_set_end": Gauge(
                "brinkbyte_billing_key_set_expires_seconds",
                "Unix time at which the key set ends",
                registry=self.registry,
            ),
            "ledger_end": Gauge(
                "brinkbyte_billing_ledger_partitions_end_seconds",
                "Unix time at which the prepared ledger partitions end; run `billing migrate` "
                "before it comes near",
                registry=self.registry,
            ),
            "clone_alarms": Counter(
                "brinkbyte_billing_clone_alarms",
                "Alarms that an instance seems to run twice, by reason",
                ["reason"],
                registry=self.registry,
            ),
            "provider_invoices": Counter(
                "brinkbyte_billing_provider_invoices",
                "Invoices at the payment provider: sent, failed, or the state that was read",
                ["outcome"],
                registry=self.registry,
            ),
            "provider_alarms": Counter(
                "brinkbyte_billing_provider_alarms",
                "Times that an invoice and its copy needed somebody's look, by reason",
                ["reason"],
                registry=self.registry,
            ),
            "webhooks": Counter(
                "brinkbyte_billing_webhooks",
                "Deliveries of the payment provider's, by what became of them",
                ["outcome"],
                registry=self.registry,
            ),
            # The rest looks across customers: it is set only where the administration is.
            "clone_alarms_open": Gauge(
                "brinkbyte_billing_clone_alarms_open",
                "Clone alarms that nobody has acknowledged, by reason",
                ["reason"],
                registry=self.registry,
            ),
            "key_set_number": Gauge(
                "brinkbyte_billing_key_set_number",
                "Number of the key set, and of the one that the newest keys came with",
                ["what"],
                registry=self.registry,
            ),
            "key_set_instances": Gauge(
                "brinkbyte_billing_key_set_instances",
                "Live instances by whether they have seen the newest keys: seen, lacking, or "
                "lacking and offline",
                ["state"],
                registry=self.registry,
            ),
            "old_key_needed": Gauge(
                "brinkbyte_billing_old_key_needed_instances",
                "Live instances that need a retired signing key",
                registry=self.registry,
            ),
        }
        for name, metric in made.items():
            object.__setattr__(self, name, metric)
