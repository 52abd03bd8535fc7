"""Entitlements that are counted: checked against the signed quotas, recorded in the outbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import psycopg
from psycopg_pool import PoolTimeout
from pydantic import TypeAdapter

from brinkbyte.catalog import Catalog
from brinkbyte.guards.answers import Amount, Answer, BillingProviderError
from brinkbyte.guards.license import FollowedLicense
from brinkbyte.guards.quotas import Quota, quota_of
from brinkbyte.guards.standing import by_mode
from brinkbyte.kit.canonical import canonical_json, sha256_hex
from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.pools import Pool
from brinkbyte.kit.uuid7 import uuid7
from brinkbyte.license.modes import ModeDecision
from brinkbyte.metering.events import UsageEvent, quantity_text
from brinkbyte.store import StoredAnswer, idempotent, record_event
from brinkbyte.store.counters import count, look, registered_devices, release
from brinkbyte.store.database import Connection
from brinkbyte.store.outbox import event_text

_UNREACHABLE: Final = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    PoolTimeout,
    OSError,
)
_ANSWER: Final = TypeAdapter(Answer)
_STORED: Final = 200


@dataclass(frozen=True)
class Usage:
    """What the event says besides meter and quantity.

    Attributes:
        key: the caller's Idempotency-Key.
        attributes: up to 16 further facts, text to text.
    """

    key: str | None = None
    camera_id: str | None = None
    hardware_id: str | None = None
    attributes: Mapping[str, str] | None = None


class EntitlementEnforcer:
    """Checks and counts use of meters; safe to share between tasks, processes and machines.

    What passes here is counted; the ledger at the vendor counts everything. A resource is a meter
    of the catalog (``platform.llm_tokens``) or what a tracker counts (``llm_tokens``), then of the
    service's own family. Of a gauge (seats, storage) the quantity is how much more is held: it
    counts until it is released, and each event says the new level.

    Args:
        pool: the instance's database.
        followed: the license in force.
        catalog: the meters there are.
        customer_id: whose use is counted.
        family: whose meters short names mean.
        service: keeps the keys of services apart.
    """

    def __init__(
        self,
        pool: Pool,
        followed: FollowedLicense,
        catalog: Catalog,
        *,
        customer_id: str,
        family: str,
        service: str,
    ) -> None:
        self._pool = pool
        self._followed = followed
        self._catalog = catalog
        self._customer_id = customer_id
        self._family = family
        self._credential = f"guards:{service}"

    async def check(self, resource: str, quantity: Amount = 1) -> Answer:
        """Return whether a quantity would be allowed now; nothing is counted or recorded.

        Raises:
            InvalidInputError: no such resource or quantity.
            BillingProviderError: the database does not answer.
        """
        meter, amount = self._meter(resource), _amount(quantity)
        limit = self._limit(meter)
        if isinstance(limit, Answer):
            return limit
        quota, decision = limit
        async with self._own() as connection:
            used, fits = await look(connection, quota.counter, amount)
        if fits:
            return quota.answer(decision, used)
        return quota.refusal(decision, used, amount, self._followed.now())

    async def check_entitlement_or_raise(self, resource: str, quantity: Amount = 1) -> Answer:
        """Return what :meth:`check` allows.

        Raises:
            EntitlementEnforcementError: it does not fit.
            InvalidInputError: no such resource or quantity.
            BillingProviderError: the database does not answer.
        """
        return (await self.check(resource, quantity)).or_raise()

    async def check_and_record(
        self,
        resource: str,
        quantity: Amount = 1,
        *,
        connection: Connection | None = None,
        key: str | None = None,
        camera_id: str | None = None,
        hardware_id: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> Answer:
        """Count a quantity and record its usage event, both or neither; durable once it returns.

        While the vendor has switched metering off there is no event, and limits hold as before.

        Args:
            resource: what is used.
            quantity: above zero, in the meter's unit, up to 9 decimals.
            connection: inside the transaction of the work that is measured, READ COMMITTED: the
                count and the event commit or go with it, and other callers of the meter wait for
                it. None: a transaction of its own.
            key: Idempotency-Key. In a transaction of its own a repeat within 48 hours gets the
                first answer and counts nothing; in the caller's, the caller sees to that.
            camera_id: the camera it concerns.
            hardware_id: the device it concerns.
            attributes: further facts of the event; of a pass-through meter its cost.

        Returns:
            The answer; one that refuses has counted and recorded nothing.

        Raises:
            InvalidInputError: no such resource, quantity, key or attribute; nothing was counted.
            BillingProviderError: the database does not answer. Without a ``connection`` it is not
                known whether the use was recorded.
        """
        meter, amount = self._meter(resource), _amount(quantity)
        usage = Usage(key, camera_id, hardware_id, attributes)
        if connection is not None:
            return await self._count(connection, meter, amount, usage)
        async with self._own() as own:
            if key is not None:
                answer = await self._count_once(own, meter, amount, usage, key)
            elif self._catalog.meter(meter).kind == "gauge":
                answer = await self._count(own, meter, amount, usage)
            else:
                # One statement is a transaction by itself: one way to the database, not three.
                await own.set_autocommit(True)
                try:
                    answer = await self._count(own, meter, amount, usage)
                finally:
                    await own.set_autocommit(False)
            failpoint("guards.before_commit")
        failpoint("guards.committed")
        return answer

    async def release(self, resource: str, quantity: Amount = 1) -> Answer:
        """Give back some of a gauge, not below zero, and record the new level.

        Raises:
            InvalidInputError: no such resource or quantity, or a counter: what was used stays so.
            BillingProviderError: the database does not answer.
        """
        meter, amount = self._meter(resource), _amount(quantity)
        if self._catalog.meter(meter).kind != "gauge":
            raise InvalidInputError(
                f"{meter} is a counter: what was used cannot be given back; release gauges only",
                reason="NotAGauge",
            )
        limit = self._limit(meter)
        if isinstance(limit, Answer):
            return limit
        quota, decision = limit
        async with self._own() as connection:
            used = await release(connection, quota.counter, amount)
            if used is None:
                return quota.answer(decision, Decimal(0))
            if not self._tracked():
                return quota.answer(decision, used)
            event = _of_level(_event(meter, amount, Usage()), used)
            await record_event(connection, event)
        return quota.answer(decision, used, event_id=event.id)

    async def devices(self) -> int:
        """Return how many devices are registered here.

        Raises:
            BillingProviderError: the database does not answer.
        """
        async with self._own() as connection:
            return await registered_devices(connection, self._customer_id)

    async def _count_once(
        self, connection: Connection, meter: str, amount: Decimal, usage: Usage, key: str
    ) -> Answer:
        asked = canonical_json({"meter": meter, "quantity": quantity_text(amount)})
        reserved = await idempotent(connection, self._credential, key, sha256_hex(asked))
        if isinstance(reserved, StoredAnswer):
            return _ANSWER.validate_json(reserved.body)
        answer = await self._count(connection, meter, amount, usage)
        if answer.allowed:
            await reserved.store(connection, _STORED, _ANSWER.dump_json(answer))
        else:
            # The key is free again: the limit may be higher when it comes back.
            await connection.rollback()
        return answer

    async def _count(
        self, connection: Connection, meter: str, amount: Decimal, usage: Usage
    ) -> Answer:
        # First of all: a transaction of the caller's may go on after a refused event.
        event = _event(meter, amount, usage)
        limit = self._limit(meter)
        if isinstance(limit, Answer):
            return limit
        quota, decision = limit
        gauge = quota.period_ends_at is None
        tracked = self._tracked()
        used = await count(
            connection, quota.counter, amount, event if tracked and not gauge else None
        )
        if used is None:
            used, _ = await look(connection, quota.counter, amount)
            return quota.refusal(decision, used, amount, self._followed.now())
        if gauge and tracked:
            event = _of_level(event, used)
            await record_event(connection, event)
        return quota.answer(decision, used, event_id=event.id if tracked else None)

    def _tracked(self) -> bool:
        """Tell whether use is metered; limits hold also where the vendor has switched that off."""
        return self._followed.standing.policy.flags.usage_tracking

    def _limit(self, meter: str) -> tuple[Quota, ModeDecision] | Answer:
        """Return the limit and the mode, or the refusal where no license is in force."""
        policy = self._followed.standing.policy
        claims = policy.snapshot.license
        if claims is None or not policy.decision.full:
            return by_mode(policy, meter)
        return quota_of(self._catalog, claims, meter, self._followed.now()), policy.decision

    def _meter(self, resource: str) -> str:
        if resource in self._catalog.meters:
            return resource
        return self._catalog.meter_for(self._family, resource)

    @asynccontextmanager
    async def _own(self) -> AsyncIterator[Connection]:
        try:
            async with self._pool.connection() as connection:
                yield connection
        except _UNREACHABLE as error:
            raise BillingProviderError(
                "the database did not answer in time; whether the use was recorded is not known. "
                "Try again, with the key that it had",
                reason="DatabaseUnavailable",
                retry_after=2,
            ) from error


def _event(meter: str, amount: Decimal, usage: Usage) -> UsageEvent:
    try:
        if "\0" in f"{usage.camera_id}{usage.hardware_id}":
            raise ValueError("names cannot hold a NUL character")
        event = UsageEvent(
            id=str(uuid7()),
            meter=meter,
            quantity=quantity_text(amount),
            key=usage.key,
            camera_id=usage.camera_id,
            hardware_id=usage.hardware_id,
            attributes=dict(usage.attributes or {}),
        )
    except ValueError as error:
        raise InvalidInputError(f"no usage event: {error}", reason="InvalidEvent") from None
    event_text(event)
    return event


def _of_level(event: UsageEvent, level: Decimal) -> UsageEvent:
    """Return a gauge's event, its id made while the counter is locked: newest id, newest level."""
    return event.model_copy(update={"id": str(uuid7()), "quantity": quantity_text(level)})


def _amount(quantity: Amount) -> Decimal:
    try:
        text = quantity_text(quantity)
    except (ValueError, ArithmeticError, TypeError) as error:
        raise InvalidInputError(
            f"{error}: send a number above 0", reason="InvalidQuantity"
        ) from None
    if text == "0":
        raise InvalidInputError("send a quantity above 0", reason="InvalidQuantity")
    return Decimal(text)
