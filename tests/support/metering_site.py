"""A customer site for metering tests: real database, identity and license directories, reporter."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.license.keys import PublicJwk
from brinkbyte.metering.batches import MAX_EVENTS
from brinkbyte.metering.events import UsageEvent
from brinkbyte.reporter.settings import ReporterSettings
from brinkbyte.resources import names
from brinkbyte.store.outbox import event_text
from brinkbyte.trust import parse_roots
from support import programs
from support.licensing import vendor

TESTS = Path(__file__).resolve().parents[1]
OPERATOR = TESTS.parent / "operator"


def usage_event(**over: object) -> UsageEvent:
    """One API call, with some members replaced."""
    return UsageEvent.model_validate(
        {"id": str(uuid7()), "meter": "vision.api_calls", "quantity": "1", **over}
    )


@dataclass
class Site:
    """The directories a reporter pod sees, its database, and how many events a batch may have."""

    root: Path
    dsn: str
    batch_events: int = MAX_EVENTS

    def write_identity(self, *, url: str, credential: str, instance: str, pem: bytes) -> None:
        directory = self.root / "identity"
        directory.mkdir(exist_ok=True)
        (directory / names.BILLING_URL_KEY).write_text(url)
        (directory / names.CREDENTIAL_KEY).write_text(credential)
        (directory / names.INSTANCE_ID_KEY).write_text(instance)
        (directory / names.PRIVATE_KEY_KEY).write_bytes(pem)
        (directory / names.CLUSTER_FINGERPRINT_KEY).write_text("cluster-1")

    def write_trust(self, roots: str, key_set: str) -> None:
        (self.root / "license").mkdir(exist_ok=True)
        (self.root / "roots.json").write_text(roots)
        (self.root / "license" / names.KEY_SET_KEY).write_text(key_set)

    def settings(self, **over: object) -> ReporterSettings:
        return ReporterSettings.load(
            **{
                "database_url": self.dsn,
                "identity_dir": self.root / "identity",
                "license_dir": self.root / "license",
                "report_attempts": 1,
                **over,
            }
        )

    def environment(self, failpoint: str = "") -> dict[str, str]:
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("BRINKBYTE_")},
            "PYTHONPATH": os.pathsep.join([str(OPERATOR), str(TESTS)]),
            "BRINKBYTE_DATABASE_URL": self.dsn,
            "BRINKBYTE_IDENTITY_DIR": str(self.root / "identity"),
            "BRINKBYTE_LICENSE_DIR": str(self.root / "license"),
            "BRINKBYTE_REPORT_ATTEMPTS": "1",
            "BRINKBYTE_FAILPOINT": failpoint,
            "TEST_BATCH_EVENTS": str(self.batch_events),
        }

    @property
    def roots(self) -> dict[str, PublicJwk]:
        return dict(parse_roots((self.root / "roots.json").read_bytes()).keys)

    def report(
        self, failpoint: str = "", *arguments: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the reporter as its own process, to its end or its failpoint."""
        return programs.run(
            "support.metering_launcher",
            str(self.root / "roots.json"),
            *("usage", "report", *arguments),
            environment={**self.environment(failpoint), **environment},
            timeout=300,
        )

    def record(self, events: Iterable[UsageEvent]) -> list[UsageEvent]:
        """Write events into the outbox as the instance does."""
        listed = list(events)
        with psycopg.connect(self.dsn) as connection:
            for event in listed:
                insert(connection, event)
        return listed

    def outbox(self) -> dict[str, dict[str, object]]:
        """Every event of the outbox by id."""
        with psycopg.connect(self.dsn) as connection:
            rows = connection.execute("SELECT id::text, event FROM usage_events").fetchall()
        return {row[0]: json.loads(row[1]) for row in rows}

    def unacknowledged(self) -> int:
        """How many events have no receipt."""
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute(
                "SELECT (SELECT count(*) FROM usage_events WHERE epoch IS NULL) + "
                "(SELECT coalesce(sum(count), 0) FROM usage_batches WHERE acknowledged_at IS NULL)"
            ).fetchone()
        assert row is not None
        return int(row[0])


def insert(connection: psycopg.Connection[Any], event: UsageEvent) -> None:
    """Write one event into the outbox, in the transaction of the connection."""
    connection.execute(
        "SELECT record_usage_events(%s, %s, %s, %s::numeric[], %s, %s)",
        (
            [event.id],
            [event_text(event)],
            [event.meter],
            [event.quantity],
            [event.camera_id],
            [event.hardware_id],
        ),
    )


def vendor_trust(number: int = 1) -> tuple[str, str]:
    """Roots and key set of the pretended vendor, valid now."""
    roots = json.dumps({"keys": [key.model_dump(mode="json") for key in vendor().roots.values()]})
    return roots, vendor().key_set(number=number, now=int(time.time()) - 10)
