"""Rules of the administration; every change is in the audit log with who made it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from brinkbyte.billing import audit
from brinkbyte.billing.administration.schemas import (
    CloneAlarmRow,
    CustomerFlags,
    InstanceRow,
    KeyRollout,
    KeyRow,
    Payment,
    SeatChangeRow,
    SeatRow,
    Seats,
    TrialRow,
)
from brinkbyte.billing.clones import repository as clones
from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.customers.lookup import unknown_customer
from brinkbyte.billing.db import Connection, Database, Row
from brinkbyte.billing.licenses import repository as license_rows
from brinkbyte.billing.licenses import trials as trial_rows
from brinkbyte.billing.licenses.keys import RETIRED_SECONDS
from brinkbyte.billing.licenses.rotation import KeyState
from brinkbyte.billing.rollout.service import InstanceProgress, Rollout
from brinkbyte.billing.subscriptions import dunning, history
from brinkbyte.billing.subscriptions.standing import Standing, entitlements_of, standing_of
from brinkbyte.catalog import Catalog
from brinkbyte.license.claims import CameraMode, Flags
from brinkbyte.license.wire import Use

LISTED = 1000
"""Instances that an answer names at most."""


async def _require(connection: Connection, customer_id: str) -> Row:
    row = await customers.lock(connection, customer_id)
    if row is None:
        raise unknown_customer(customer_id)
    return row


def _in_force(stored: Mapping[str, bool]) -> dict[str, bool]:
    return Flags(**stored).model_dump(by_alias=False)


async def get_flags(database: Database, customer_id: str) -> CustomerFlags:
    """Return a customer's feature flags, those never set with their default.

    Raises:
        ProblemError: 404 ``UnknownCustomer``.
    """
    async with database.tenant(customer_id) as connection:
        row = await _require(connection, customer_id)
    return CustomerFlags(customer_id=customer_id, flags=_in_force(row["flags"]))


async def set_flags(
    database: Database, customer_id: str, changes: Mapping[str, bool], *, actor: str, now: int
) -> CustomerFlags:
    """Set some feature flags; the license is cut anew at the instance's next ask.

    Raises:
        ProblemError: 404 ``UnknownCustomer``.
    """
    async with database.tenant(customer_id) as connection:
        row = await _require(connection, customer_id)
        before = _in_force(row["flags"])
        after = {**before, **changes}
        if after != before:
            await customers.set_flags(
                connection, customer_id, after, datetime.fromtimestamp(now, UTC)
            )
            await audit.record(
                connection,
                customer_id,
                now=now,
                actor=actor,
                action="flags.set",
                subject=customer_id,
                details={
                    name: {"from": before[name], "to": value}
                    for name, value in after.items()
                    if before[name] != value
                },
            )
    return CustomerFlags(customer_id=customer_id, flags=after)


async def clone_alarms(database: Database, *, acknowledged: bool = False) -> list[CloneAlarmRow]:
    """Return the open clone alarms of every customer, acknowledged ones on request."""
    async with database.nobody() as connection:
        return [_alarm(row) for row in await clones.alarms(connection, acknowledged=acknowledged)]


async def acknowledge_clones(
    database: Database, customer_id: str, *, note: str, actor: str, now: int
) -> list[CloneAlarmRow]:
    """Acknowledge a customer's open clone alarms; what is seen after it raises them anew.

    Raises:
        ProblemError: 404 ``UnknownCustomer``.
    """
    async with database.tenant(customer_id) as connection:
        await _require(connection, customer_id)
        rows = await clones.acknowledge(
            connection, customer_id, actor=actor, note=note, now=datetime.fromtimestamp(now, UTC)
        )
        for row in rows:
            await audit.record(
                connection,
                customer_id,
                now=now,
                actor=actor,
                action="clone_alarm.acknowledged",
                subject=row["instance_id"],
                details={"reason": row["reason"], "note": note},
            )
    return [_alarm(row) for row in rows]


def _alarm(row: Row) -> CloneAlarmRow:
    return CloneAlarmRow(
        customer_id=row["tenant_id"],
        instance_id=row["instance_id"],
        reason=row["reason"],
        first_party=row["first_party"],
        second_party=row["second_party"],
        details=row["details"],
        raised_at=_seconds(row["raised_at"]),
        last_seen_at=_seconds(row["last_seen_at"]),
        times=row["times"],
        acknowledged_at=_maybe(row["acknowledged_at"]),
        acknowledged_by=row["acknowledged_by"],
        note=row["note"],
    )


async def note_payment(
    database: Database, customer_id: str, due_at: int | None, *, actor: str, now: int
) -> Payment:
    """Note an unpaid invoice by its due date (Unix seconds), or with None that all is paid.

    Raises:
        ProblemError: see :mod:`brinkbyte.billing.subscriptions.dunning`.
    """
    async with database.tenant(customer_id) as connection:
        standing: Standing
        if due_at is None:
            standing = await dunning.payment_received(connection, customer_id, actor=actor, now=now)
        else:
            standing = await dunning.payment_failed(
                connection, customer_id, due_at=due_at, actor=actor, now=now
            )
    return Payment(
        customer_id=customer_id,
        status=standing.status_at(now).value,
        payment_due_at=standing.payment_due_at,
        ends_at=standing.ends_at,
    )


async def seats_of(
    database: Database,
    catalog: Catalog,
    customer_id: str,
    camera_id: str | None = None,
    *,
    now: int,
) -> Seats:
    """Return a customer's seats, trials and history, or one camera's.

    Raises:
        ProblemError: 404 ``UnknownCustomer``.
    """
    async with database.tenant(customer_id) as connection:
        await _require(connection, customer_id)
        standing = standing_of(await history.current(connection, catalog, customer_id, now))
        held, _ = await license_rows.seats(connection, customer_id)
        trials = await trial_rows.camera_trials(connection, customer_id)
        moves = await license_rows.history(connection, customer_id, camera_id)
    entitled = entitlements_of(catalog, standing)
    live = [seat.mode for seat in held.values() if seat.held_until is None]
    return Seats(
        customer_id=customer_id,
        base=Use(used=live.count(CameraMode.BASE), limit=entitled.base_seats),
        trial=Use(used=live.count(CameraMode.TRIAL), limit=entitled.trial_seats),
        seats=tuple(
            SeatRow(
                camera_id=seat.camera_id,
                seat=seat.seat_id,
                resource=seat.request_name,
                hardware_id=seat.hardware_id,
                mode=seat.mode,
                growth_packs=seat.packs,
                taken_at=seat.taken_at,
                until=seat.until,
                held_until=seat.held_until,
            )
            for seat in sorted(held.values(), key=lambda seat: seat.camera_id)
            if camera_id in (None, seat.camera_id)
        ),
        trials=tuple(
            TrialRow(camera_id=camera, until=until)
            for camera, until in sorted(trials.items())
            if camera_id in (None, camera)
        ),
        history=tuple(
            SeatChangeRow(
                at=_seconds(row["at"]),
                camera_id=row["camera_id"],
                seat=row["seat_id"],
                action=row["action"],
                from_hardware_id=row["from_hardware_id"],
                hardware_id=row["hardware_id"],
                mode=row["mode"],
                growth_packs=tuple(row["growth_packs"]),
                reason=row["reason"],
                actor=row["actor"],
            )
            for row in moves
        ),
    )


def key_rollout(rollout: Rollout) -> KeyRollout:
    """Put a rollout into the answer's form."""
    keys = rollout.keys
    return KeyRollout(
        number=keys.number,
        target=keys.target,
        phase=keys.phase,
        expires_at=keys.expires_at,
        keys=tuple(_key(keys, kid) for kid in sorted(keys.keys, key=lambda k: _order(keys, k))),
        instances=len(rollout.instances),
        seen=rollout.seen,
        waiting=len(rollout.waiting),
        lacking=_instances(rollout.lacking),
        needing=_instances(rollout.needing),
    )


def _order(keys: KeyState, kid: str) -> tuple[int, tuple[str, ...], str]:
    rank = 0 if kid in keys.signing else 1 if kid in keys.next else 2
    return rank, tuple(kind.value for kind in keys.keys[kid].kinds), kid


def _key(keys: KeyState, kid: str) -> KeyRow:
    retired = keys.retired.get(kid)
    return KeyRow(
        key_id=kid,
        kinds=tuple(kind.value for kind in keys.keys[kid].kinds),
        state="next" if kid in keys.next else "signing" if retired is None else "retired",
        key_set_number=keys.came_with([kid])[kid],
        retired_at=retired,
        goes_at=None if retired is None else retired + RETIRED_SECONDS,
    )


def _instances(listed: Iterable[InstanceProgress]) -> tuple[InstanceRow, ...]:
    rows = [
        InstanceRow(
            customer_id=each.tenant_id,
            instance_id=each.instance_id,
            name=each.name,
            key_set_number=each.key_set_number,
            via=each.via,
            last_contact_at=each.contact_at,
            seen=each.seen,
            in_touch=each.in_touch,
            needs_old_key_until=each.needs_until,
        )
        for each in listed
    ]
    return tuple(rows[:LISTED])


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _maybe(moment: Any) -> int | None:
    return None if moment is None else _seconds(moment)
