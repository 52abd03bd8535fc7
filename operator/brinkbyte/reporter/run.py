"""One run of the reporter, from start delay to recorded outcome."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import psycopg

from brinkbyte.client import BillingClient
from brinkbyte.kit.errors import PermanentError, TemporaryError
from brinkbyte.kit.logging import get_logger
from brinkbyte.license.keys import PublicJwk
from brinkbyte.reporter.delivery import DeadlineError, Delivery, Progress
from brinkbyte.reporter.settings import ReporterSettings
from brinkbyte.reporter.trust import ReceiptVerifier
from brinkbyte.store.database import Connection, connect
from brinkbyte.store.idempotency import purge_idempotency_keys
from brinkbyte.store.identity import Identity
from brinkbyte.store.outbox import drop_old_partitions, ensure_partitions
from brinkbyte.store.receipts import purge_batches, record_failure, record_success
from brinkbyte.store.sealing import lock_outbox
from brinkbyte.store.state import metering_state
from brinkbyte.trust import load_release_roots

Sleep = Callable[[float], Awaitable[None]]
_FIRST_BACKOFF: Final = 1.0
_MAX_BACKOFF: Final = 30.0
_LOCK_SECONDS: Final = 1.0
_BACKLOG: Final = "BacklogRemains"
_BUSY: Final = "ReporterBusy"
_AIR_GAPPED: Final = "AirGapped"
_NO_LINE: Final = "this site has no line: usage is kept until it is exported"
_RIVAL: Final = "another reporter is at work"
_log = get_logger(__name__)


class Result(StrEnum):
    """How a run ended."""

    DONE = "done"
    BUSY = "busy"
    TEMPORARY = "temporary"
    PERMANENT = "permanent"


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and what it did.

    Attributes:
        result: done (nothing is left unacknowledged), busy (another reporter is at work), or the
            kind of failure.
        reason: CamelCase, empty without a failure; ``AirGapped``: nobody was to be told.
        message: for a person.
        progress: what was done, also before a failure.
    """

    result: Result
    reason: str = ""
    message: str = ""
    progress: Progress = field(default_factory=Progress)


def release_roots() -> Mapping[str, PublicJwk]:
    """Return the root keys that receipts are judged by.

    Raises:
        KeySetError: the release was built without them.
    """
    return load_release_roots().keys


async def run_report(
    settings: ReporterSettings,
    *,
    roots: Mapping[str, PublicJwk] | None = None,
    sleep: Sleep = asyncio.sleep,
    monotonic: Callable[[], float] = time.monotonic,
    client_factory: Callable[..., BillingClient] = BillingClient,
) -> Outcome:
    """Report once: everything unacknowledged is sent, or the outcome says why not.

    Raises nothing for a failure of line, server or database; programming errors pass.

    Args:
        settings: where everything is.
        roots: root public keys; the release's own by default.
        sleep: waits so many seconds.
        monotonic: seconds that never go back.
        client_factory: makes the client of the billing API.
    """
    deadline = monotonic() + settings.report_deadline_seconds
    delay = settings.start_delay()
    if delay:
        await sleep(delay)
    try:
        conn = await connect(settings, name="brinkbyte-reporter")
    except TemporaryError as error:
        return Outcome(Result.TEMPORARY, error.reason, error.message)
    except psycopg.OperationalError as error:
        return _database_failure(error)
    async with conn:
        run = _Run(settings, conn, deadline, sleep, monotonic, client_factory, roots)
        try:
            return await run.locked()
        except psycopg.errors.UndefinedTable:
            return Outcome(
                Result.TEMPORARY,
                "SchemaNotReady",
                "the database has no metering schema yet; `brinkbyte instance migrate` makes it",
            )
        except psycopg.OperationalError as error:
            return _database_failure(error)


def _database_failure(error: psycopg.OperationalError) -> Outcome:
    lines = str(error).strip().splitlines()
    return Outcome(
        Result.TEMPORARY,
        "DatabaseUnreachable",
        f"the database cannot be used ({lines[0] if lines else type(error).__name__}); it is "
        "tried again with the next run, check the PostgresReady condition",
    )


@dataclass
class _Run:
    settings: ReporterSettings
    conn: Connection
    deadline: float
    sleep: Sleep
    monotonic: Callable[[], float]
    client_factory: Callable[..., BillingClient]
    roots: Mapping[str, PublicJwk] | None
    progress: Progress = field(default_factory=Progress)

    async def locked(self) -> Outcome:
        if not await self._lock():
            _log.info("another reporter is at work")
            if not self.settings.report_final:
                return Outcome(Result.BUSY, message=_RIVAL)
            return Outcome(Result.TEMPORARY, _BUSY, f"{_RIVAL}; run this again when it has ended")
        air_gapped = Identity(self.settings.identity_dir).air_gapped
        outcome = (
            Outcome(Result.DONE, _AIR_GAPPED, _NO_LINE) if air_gapped else await self._report()
        )
        await self._housekeeping()
        if outcome.result is Result.DONE and self.settings.report_final:
            outcome = await self._nothing_left(outcome)
        if air_gapped:
            return outcome  # nothing was reported, and nothing went wrong
        if outcome.result is Result.DONE or outcome.reason == _BACKLOG:
            await record_success(self.conn, complete=outcome.result is Result.DONE)
        else:
            await record_failure(self.conn, outcome.reason, outcome.message)
        return outcome

    async def _lock(self) -> bool:
        """Take the outbox lock; who reports for the last time waits for it."""
        while not await lock_outbox(self.conn):
            late = self.monotonic() + _LOCK_SECONDS >= self.deadline
            if late or not self.settings.report_final:
                return False
            await self.sleep(_LOCK_SECONDS)
        return True

    async def _nothing_left(self, outcome: Outcome) -> Outcome:
        """Look once more: rows that others held at the time were passed over."""
        left = (await metering_state(self.conn)).backlog
        if not left:
            return outcome
        return Outcome(
            Result.TEMPORARY,
            _BACKLOG,
            f"{left} events have no receipt yet; run this again",
            outcome.progress,
        )

    async def _report(self) -> Outcome:
        backoff = _FIRST_BACKOFF
        attempt = 1
        while True:
            try:
                await self._deliver()
            except TemporaryError as error:
                wait = max(backoff * random.uniform(0.75, 1.25), error.retry_after or 0.0)  # noqa: S311 - spreads load, guards nothing
                late = self.monotonic() + wait >= self.deadline
                if attempt >= self.settings.report_attempts or late:
                    return Outcome(Result.TEMPORARY, error.reason, error.message, self.progress)
                _log.warning("trying again", reason=error.reason, wait_seconds=round(wait, 1))
                await self.sleep(wait)
                attempt += 1
                backoff = min(backoff * 2, _MAX_BACKOFF)
            except PermanentError as error:
                return Outcome(Result.PERMANENT, error.reason, error.message, self.progress)
            except DeadlineError:
                return Outcome(
                    Result.TEMPORARY,
                    _BACKLOG,
                    "time is over before the outbox is empty; the next run goes on",
                    self.progress,
                )
            else:
                return Outcome(Result.DONE, progress=self.progress)

    async def _deliver(self) -> None:
        identity = Identity(self.settings.identity_dir)
        roots = release_roots() if self.roots is None else self.roots
        key, instance = identity.signing_key(), identity.instance_id()
        client = self.client_factory(
            identity.billing_url(), identity.credential, ca_file=identity.ca_file()
        )
        async with client:
            delivery = Delivery(
                self.conn,
                client,
                ReceiptVerifier(roots, self.settings.license_dir, client),
                key=key,
                instance=instance,
                customer_id=self.settings.customer_id,
                deadline=self.deadline,
                monotonic=self.monotonic,
                progress=self.progress,
            )
            await delivery.run()

    async def _housekeeping(self) -> None:
        now = datetime.now(UTC)
        await ensure_partitions(self.conn, now)
        keys = await purge_idempotency_keys(self.conn)
        batches = await purge_batches(self.conn, now)
        partitions = await drop_old_partitions(self.conn, now)
        if keys or batches or partitions:
            _log.info("cleaned up", keys=keys, batches=batches, partitions=partitions)
