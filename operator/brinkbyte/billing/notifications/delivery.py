"""The worker's job that tells people: at least once, under a stable id, until they have heard.

A delivery is claimed for a while in a transaction of its own, sent, and settled in another. Who
dies in between leaves it claimed; when the claim ends it is sent again under the same id
(``BrinkByte-Delivery``, ``Message-ID``, ``Idempotency-Key``). Failed tries come again with
exponential backoff and jitter for three days; a target that failed all that time, or that says so,
is disabled with a reason.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

import httpx

from brinkbyte.billing import audit
from brinkbyte.billing.auth import Secrets
from brinkbyte.billing.db import Connection, Database, Row
from brinkbyte.billing.notifications import repository
from brinkbyte.billing.notifications.outbox import DIRECT, Kind
from brinkbyte.billing.notifications.senders import (
    EmailSender,
    HttpSmsSender,
    Message,
    Outcome,
    SmsSender,
    WebhookSender,
)
from brinkbyte.billing.notifications.settings import NotificationSettings
from brinkbyte.billing.notifications.signing import secrets_of
from brinkbyte.billing.notifications.texts import text_of
from brinkbyte.billing.users.links import link_token
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.logging import get_logger

ACTOR: Final = "worker"
FIRST_WAIT: Final = 30.0
LONGEST_WAIT: Final = 6 * 3600.0
GIVE_UP: Final = timedelta(days=3)
AT_ONCE: Final = 8
_CLAIM: Final = timedelta(minutes=3)
_LONGEST_TRY: Final = 120.0
_BATCH: Final = 200
_JITTER: Final = 0.2
_UNREADY_WAIT: Final = timedelta(minutes=10)
_log = get_logger(__name__)


class DeliveryContext(Protocol):
    """What delivering needs of the worker."""

    @property
    def database(self) -> Database:
        """Transactions of the role worker (or api, for one customer)."""
        ...


@dataclass(frozen=True)
class Senders:
    """The open ways out.

    Attributes:
        secrets: signs webhooks and makes links; None without a pepper.
    """

    email: EmailSender
    webhook: WebhookSender
    sms: SmsSender
    secrets: Secrets | None
    portal_url: str


def backoff(attempts: int, *, jitter: float | None = None) -> float:
    """Return the seconds until the next try; longer each time, spread by a fifth either way.

    Args:
        attempts: tries so far, at least 1.
        jitter: from 0 to 1; None: at random.
    """
    drawn = random.random() if jitter is None else jitter  # noqa: S311 - spreads load
    base: float = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempts - 1, 20))
    return base * (1 - _JITTER + 2 * _JITTER * drawn)


async def deliver(
    context: DeliveryContext, now: int, settings: NotificationSettings | None = None
) -> int:
    """Tell whoever is to be told now.

    Args:
        context: the worker's.
        now: Unix seconds.
        settings: read from the environment if left out.

    Returns:
        How many deliveries the other side took.
    """
    chosen = settings or NotificationSettings.load()
    pepper = chosen.pepper
    delivered = 0
    # No connection is used twice: two names at one address are two certificates.
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(
        timeout=chosen.notification_timeout, trust_env=False, limits=limits
    ) as client:
        senders = Senders(
            EmailSender(chosen),
            WebhookSender(client, chosen),
            HttpSmsSender(client, chosen),
            None if pepper is None else Secrets(pepper.get_secret_value()),
            chosen.portal_url.rstrip("/"),
        )
        while True:
            moment = datetime.fromtimestamp(now, UTC)
            async with context.database.nobody() as connection:
                rows = await repository.due(connection, moment, _BATCH)
            gate = asyncio.Semaphore(AT_ONCE)
            told = await asyncio.gather(*(_one(context, senders, row, now, gate) for row in rows))
            delivered += sum(told)
            if len(rows) < _BATCH:
                return delivered


async def _one(
    context: DeliveryContext, senders: Senders, found: Row, now: int, gate: asyncio.Semaphore
) -> bool:
    moment = datetime.fromtimestamp(now, UTC)
    tenant_id: str = found["tenant_id"]
    async with gate:
        async with context.database.tenant(tenant_id) as connection:
            row = await repository.claim(
                connection,
                tenant_id,
                found["notification_id"],
                found["target_id"],
                now=moment,
                until=moment + _CLAIM,
            )
        if row is None:
            return False
        failpoint("deliver.claimed")
        outcome = await _send(senders, row, now)
        failpoint("deliver.sent")
        async with context.database.tenant(tenant_id) as connection:
            await _settle(connection, row, outcome, now)
        failpoint("deliver.settled")
    return outcome.error is None


async def _send(senders: Senders, row: Row, now: int) -> Outcome:
    try:
        # A try ends before its claim does.
        async with asyncio.timeout(_LONGEST_TRY):
            return await _try(senders, row, now)
    except Exception as error:  # noqa: BLE001 - one message that cannot be sent stops no other
        _log.error("a notification could not be sent", kind=row["kind"], error=type(error).__name__)
        return Outcome(f"could not be sent: {type(error).__name__}")


async def _try(senders: Senders, row: Row, now: int) -> Outcome:
    if row["disabled_at"] is not None:
        return Outcome(f"the target was disabled: {row['disabled_reason']}", again=False)
    expires = row["payload"].get("expiresAt") if Kind(row["kind"]) in DIRECT else None
    if isinstance(expires, int) and now >= expires:
        return Outcome("its link has ended", again=False)
    message = _message(senders, row)
    if row["channel"] == "email" and message is not None:
        return await senders.email.send(message, now)
    if row["channel"] == "sms" and message is not None:
        return await senders.sms.send(message)
    if senders.secrets is None or message is None:
        return Outcome("links and signatures need the pepper (BRINKBYTE_PEPPER)", unready=True)
    signed_with = secrets_of(
        senders.secrets,
        row["tenant_id"],
        row["target_id"],
        row["secret_version"],
        previous_until=row["previous_until"],
        now=datetime.fromtimestamp(now, UTC),
    )
    return await senders.webhook.send(message, signed_with, now)


def _message(senders: Senders, row: Row) -> Message | None:
    kind, payload = Kind(row["kind"]), row["payload"]
    url = None
    if kind in DIRECT:
        url = _link(senders, row["tenant_id"], payload)
        if url is None:
            return None
    notification: UUID = row["notification_id"]
    text = text_of(kind, payload, url=url)
    document = {
        "id": str(notification),
        "kind": kind.value,
        "createdAt": int(row["created_at"].timestamp()),
        "customerId": row["tenant_id"],
        "customerName": row["name"],
        "subject": text.subject,
        "data": payload,
    }
    # A webhook knows a repeat by the notification, a mailbox by notification and address.
    unique = str(notification)
    if row["channel"] != "webhook":
        unique = f"{notification}.{row['target_id']}"
    return Message(unique, row["address"], text, document)


def _link(senders: Senders, tenant_id: str, payload: Mapping[str, Any]) -> str | None:
    """Return a link for one person: its token is made here and stored nowhere."""
    if senders.secrets is None:
        return None
    token = link_token(senders.secrets, tenant_id, str(payload["linkId"]))
    return f"{senders.portal_url}/sign-in#{token}"


async def _settle(connection: Connection, row: Row, outcome: Outcome, now: int) -> None:
    moment = datetime.fromtimestamp(now, UTC)
    if outcome.error is None:
        await repository.settle(
            connection, row, state="delivered", due_at=moment, error=None, now=moment
        )
        await repository.mark_target(connection, row, failing_since=None)
        return
    if outcome.unready:
        wait = _UNREADY_WAIT
    else:
        wait = timedelta(seconds=max(backoff(row["attempts"]), outcome.retry_after or 0))
    over = not outcome.again or moment + wait > row["created_at"] + GIVE_UP
    settled = await repository.settle(
        connection,
        row,
        state="failed" if over else "pending",
        due_at=moment if over else moment + wait,
        error=outcome.error[:400],
        now=moment,
    )
    if not settled or outcome.unready:
        return
    since = row["failing_since"] or moment
    await repository.mark_target(connection, row, failing_since=since)
    reason = outcome.disable
    if reason is None and over and outcome.again and moment + wait > since + GIVE_UP:
        reason = f"nothing was taken for three days; last: {outcome.error[:200]}"
    if reason is not None and await repository.disable(connection, row, reason, moment):
        await audit.record(
            connection,
            row["tenant_id"],
            now=now,
            actor=ACTOR,
            action="notification_target.disabled",
            subject=str(row["target_id"]),
            details={"reason": reason},
        )
        _log.warning("a notification target was disabled", reason=reason)
