"""Rules of targets: which addresses may be told, of what, signed with which secret."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

from brinkbyte.billing import audit
from brinkbyte.billing.auth import Secrets
from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.notifications import repository
from brinkbyte.billing.notifications.addresses import RefusedAddressError, check_url
from brinkbyte.billing.notifications.outbox import Kind
from brinkbyte.billing.notifications.schemas import (
    DeliveryState,
    Notification,
    Notifications,
    Target,
    TargetCreate,
    Targets,
)
from brinkbyte.billing.notifications.signing import ROLL, secret_of
from brinkbyte.billing.notifications.texts import text_of
from brinkbyte.kit.problem import ProblemError

MAX_TARGETS: Final = 50
PAGE: Final = 50
_EMAIL: Final = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])",
    re.ASCII,
)
_PHONE: Final = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)


def _invalid(message: str) -> ProblemError:
    return ProblemError(422, message, reason="InvalidTarget")


def check_address(channel: str, address: str, *, allow_private: bool = False) -> None:
    """Judge an address as it is written; a webhook's is judged again each time it is reached.

    Raises:
        ProblemError: 422 ``InvalidTarget``.
    """
    if channel == "email" and not _EMAIL.fullmatch(address):
        raise _invalid("give an e-mail address such as billing@example.com")
    if channel == "sms" and not _PHONE.fullmatch(address):
        raise _invalid("give a phone number with its country, such as +61412345678")
    if channel == "webhook":
        if not address.isascii() or not address.isprintable() or " " in address:
            raise _invalid("write the URL in ASCII, with %-escapes")
        try:
            check_url(address, allow_private=allow_private)
        except RefusedAddressError as error:
            raise _invalid(error.message) from None


async def show(connection: Connection, tenant_id: str) -> Targets:
    """Return a customer's targets."""
    rows = await repository.targets(connection, tenant_id)
    return Targets(targets=tuple(target_of(row) for row in rows))


async def create(
    connection: Connection,
    tenant_id: str,
    wanted: TargetCreate,
    secrets: Secrets,
    *,
    actor: str,
    now: int,
    allow_private: bool = False,
) -> Target:
    """Add a target; an address that is set already takes the kinds.

    Raises:
        ProblemError: 422 ``InvalidTarget``, ``TooManyTargets``.
    """
    check_address(wanted.channel, wanted.address, allow_private=allow_private)
    rows = await repository.targets(connection, tenant_id)
    known = any((r["channel"], r["address"]) == (wanted.channel, wanted.address) for r in rows)
    if not known and len(rows) >= MAX_TARGETS:
        raise ProblemError(
            422, f"there are {MAX_TARGETS} targets; delete one first", reason="TooManyTargets"
        )
    found, new = await repository.put_target(
        connection,
        tenant_id,
        uuid4(),
        channel=wanted.channel,
        address=wanted.address,
        kinds=wanted.kinds,
        now=_moment(now),
    )
    await _audit(
        connection, tenant_id, found, "created" if new else "changed", actor=actor, now=now
    )
    return await _show(connection, tenant_id, found, secrets)


async def change(
    connection: Connection,
    tenant_id: str,
    wanted: UUID,
    kinds: tuple[str, ...],
    *,
    actor: str,
    now: int,
) -> Target:
    """Change what a target is told of (404 ``UnknownTarget``)."""
    await _require(connection, tenant_id, wanted)
    await repository.set_kinds(connection, tenant_id, wanted, kinds, _moment(now))
    await _audit(connection, tenant_id, wanted, "changed", actor=actor, now=now)
    return target_of(await _require(connection, tenant_id, wanted))


async def enable(
    connection: Connection, tenant_id: str, wanted: UUID, *, actor: str, now: int
) -> Target:
    """Let a target be told again from now on (404 ``UnknownTarget``)."""
    row = await _require(connection, tenant_id, wanted)
    if row["disabled_at"] is not None:
        await repository.enable(connection, tenant_id, wanted, _moment(now))
        await _audit(connection, tenant_id, wanted, "enabled", actor=actor, now=now)
    return target_of(await _require(connection, tenant_id, wanted))


async def roll(
    connection: Connection,
    tenant_id: str,
    wanted: UUID,
    secrets: Secrets,
    *,
    actor: str,
    now: int,
) -> Target:
    """Give a webhook its next secret; the one before signs too for a day.

    Raises:
        ProblemError: 404 ``UnknownTarget``; 422 ``InvalidTarget`` for what is not signed.
    """
    row = await _require(connection, tenant_id, wanted)
    if row["channel"] != "webhook":
        raise _invalid("only webhooks are signed; there is no secret to roll")
    moment = _moment(now)
    await repository.roll(connection, tenant_id, wanted, moment + ROLL, moment)
    await _audit(connection, tenant_id, wanted, "secret_rolled", actor=actor, now=now)
    return await _show(connection, tenant_id, wanted, secrets)


async def remove(
    connection: Connection, tenant_id: str, wanted: UUID, *, actor: str, now: int
) -> None:
    """Delete a target, with what waits for it (404 ``UnknownTarget``)."""
    await _require(connection, tenant_id, wanted)
    await repository.delete(connection, tenant_id, wanted)
    await _audit(connection, tenant_id, wanted, "deleted", actor=actor, now=now)


async def history(
    connection: Connection, tenant_id: str, *, before: UUID | None = None, limit: int = PAGE
) -> Notifications:
    """Return a page of a customer's notifications, the newest first."""
    rows = await repository.notifications(connection, tenant_id, limit, before)
    return Notifications(
        notifications=tuple(
            Notification(
                id=str(row["id"]),
                kind=row["kind"],
                subject=text_of(Kind(row["kind"]), row["payload"]).subject,
                data=row["payload"],
                created_at=int(row["created_at"].timestamp()),
                deliveries=tuple(DeliveryState.model_validate(d) for d in row["deliveries"]),
            )
            for row in rows
        ),
        next=str(rows[-1]["id"]) if len(rows) == limit else None,
    )


def _moment(now: int) -> datetime:
    return datetime.fromtimestamp(now, UTC)


async def _require(connection: Connection, tenant_id: str, wanted: UUID) -> Row:
    row = await repository.target(connection, tenant_id, wanted)
    if row is None:
        raise ProblemError(404, "there is no such target; list them first", reason="UnknownTarget")
    return row


async def _show(connection: Connection, tenant_id: str, wanted: UUID, secrets: Secrets) -> Target:
    row = await _require(connection, tenant_id, wanted)
    found = target_of(row)
    if row["channel"] != "webhook":
        return found
    secret = secret_of(secrets, tenant_id, wanted, row["secret_version"])
    return found.model_copy(update={"secret": secret})


async def _audit(
    connection: Connection, tenant_id: str, wanted: UUID, verb: str, *, actor: str, now: int
) -> None:
    await audit.record(
        connection,
        tenant_id,
        now=now,
        actor=actor,
        action=f"notification_target.{verb}",
        subject=str(wanted),
    )


def target_of(row: Row) -> Target:
    """Read a row of ``notification_targets``."""

    def seconds(name: str) -> int | None:
        return None if row[name] is None else int(row[name].timestamp())

    return Target(
        id=str(row["id"]),
        channel=row["channel"],
        address=row["address"],
        kinds=tuple(row["kinds"]),
        created_at=int(row["created_at"].timestamp()),
        waiting=row["waiting"],
        failing_since=seconds("failing_since"),
        disabled_at=seconds("disabled_at"),
        disabled_reason=row["disabled_reason"],
        previous_secret_until=seconds("previous_until"),
    )
