"""The customer side's PostgreSQL: schema, outbox, sealing, telemetry, imports; all its SQL.

In: events, requests, receipts, signed documents of a mounted directory, and a connection inside the
caller's transaction. Out: rows that commit with the work they measure, sealed batches, the state of
metering, the documents in force and what they allow. May import: the domain
(``catalog``, ``license``, ``metering``, ``resources``) and ``kit``.
"""

from brinkbyte.store.database import DatabaseSettings, open_database
from brinkbyte.store.idempotency import Reservation, StoredAnswer, idempotent
from brinkbyte.store.migrations_runner import MigrationError, migrate
from brinkbyte.store.outbox import record_event, record_events
from brinkbyte.store.state import metering_state

__all__ = [
    "DatabaseSettings",
    "MigrationError",
    "Reservation",
    "StoredAnswer",
    "idempotent",
    "metering_state",
    "migrate",
    "open_database",
    "record_event",
    "record_events",
]
