"""Rules of customers."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

from brinkbyte.billing import audit
from brinkbyte.billing.context import Context
from brinkbyte.billing.customers import repository
from brinkbyte.billing.customers.lookup import require, unknown_customer
from brinkbyte.billing.customers.schemas import (
    CostItem,
    Customer,
    CustomerCreate,
    LicenseDocument,
    MeterUse,
    Portal,
)
from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.devices import repository as device_rows
from brinkbyte.billing.instances import repository as instances
from brinkbyte.billing.licenses import documents
from brinkbyte.billing.licenses import repository as license_rows
from brinkbyte.billing.licenses import service as licenses
from brinkbyte.billing.licenses.bought import device_limit
from brinkbyte.billing.notifications import repository as targets
from brinkbyte.billing.quotas import service as quotas
from brinkbyte.billing.subscriptions import history
from brinkbyte.billing.subscriptions.standing import entitlements_of, standing_of
from brinkbyte.kit.problem import ProblemError
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.wire import Held, Use


def _customer(row: Row) -> Customer:
    return Customer(
        customer_id=row["tenant_id"],
        name=row["name"],
        email=row["billing_email"],
        flags=row["flags"],
        created_at=int(row["created_at"].timestamp()),
    )


async def create_in(
    connection: Connection, request: CustomerCreate, *, actor: str, now: int
) -> Customer:
    """Create a customer; the same request again returns the one that is there.

    Raises:
        ProblemError: 409 ``CustomerExists`` when the id has another name.
    """
    moment = datetime.fromtimestamp(now, UTC)
    created = await repository.insert(connection, request.customer_id, request.name, moment)
    row = await repository.find(connection, request.customer_id)
    if row is None or (not created and row["name"] != request.name):
        raise ProblemError(
            409,
            f"customer {request.customer_id} is there already under another name; choose "
            "another id",
            reason="CustomerExists",
        )
    if request.flags is not None:
        flags = request.flags.model_dump(by_alias=False)
        await repository.set_flags(connection, request.customer_id, flags, moment)
        if not created and row["flags"] != flags:
            await audit.record(
                connection,
                request.customer_id,
                now=now,
                actor=actor,
                action="flags.set",
                subject=request.customer_id,
                details={"from": row["flags"], "to": flags},
            )
        row = {**row, "flags": flags}
    if created:
        await audit.record(
            connection,
            request.customer_id,
            now=now,
            actor=actor,
            action="customer.created",
            subject=request.customer_id,
            details={"name": request.name},
        )
    if request.email is not None:
        await set_email_in(connection, request.customer_id, request.email, actor=actor, now=now)
        row = {**row, "billing_email": request.email}
    return _customer(row)


async def set_email_in(
    connection: Connection, customer_id: str, email: str, *, actor: str, now: int
) -> None:
    """Set where a customer's invoices go; the same again changes nothing.

    Notifications go there too, in place of the address before: so somebody is told, also of a
    customer that never looked at its targets. What it chose for the address itself stays.

    Raises:
        ProblemError: 404 ``UnknownCustomer``.
    """
    row = await repository.lock(connection, customer_id)
    if row is None:
        raise unknown_customer(customer_id)
    before = row["billing_email"]
    if before == email:
        return
    moment = datetime.fromtimestamp(now, UTC)
    await repository.set_billing_email(connection, customer_id, email, moment)
    held = {
        target["address"]: target["id"]
        for target in await targets.targets(connection, customer_id)
        if target["channel"] == "email"
    }
    if before in held:
        await targets.delete(connection, customer_id, held[before])
    if email not in held:
        await targets.put_target(
            connection, customer_id, uuid4(), channel="email", address=email, kinds=(), now=moment
        )
    await audit.record(
        connection,
        customer_id,
        now=now,
        actor=actor,
        action="customer.billing_email",
        subject=customer_id,
    )


async def license_of(context: Context, customer_id: str) -> LicenseDocument:
    """Return the newest license of the customer's live instance.

    Raises:
        ProblemError: 404 ``UnknownCustomer``, ``NotEnrolled`` or ``NoLicense``.
    """
    await require(context, customer_id)
    async with context.database.tenant(customer_id) as connection:
        live = await instances.live(connection, customer_id)
    if live is None:
        raise ProblemError(
            404, f"customer {customer_id} has no live instance; enroll one", reason="NotEnrolled"
        )
    issued = await licenses.current_documents(context, customer_id, live["instance_id"], Held())
    token = documents.newer(context, issued, Held())["license"]
    if not token:
        raise ProblemError(
            404, f"customer {customer_id} has no subscription; set one", reason="NoLicense"
        )
    return LicenseDocument(customer_id=customer_id, instance_id=live["instance_id"], license=token)


async def portal(context: Context, customer_id: str) -> Portal:
    """Return what a customer sees at a glance."""
    row = await require(context, customer_id)
    now = context.now()
    async with context.database.tenant(customer_id) as connection:
        standing = standing_of(await history.current(connection, context.catalog, customer_id, now))
        live = await instances.live(connection, customer_id)
        devices = await device_rows.declared(connection, customer_id)
        seats, _ = await license_rows.seats(connection, customer_id)
        entries = await license_rows.revocations(connection, customer_id)
        usage = await quotas.period_usage(connection, context.catalog, customer_id, standing, now)
    entitled = entitlements_of(context.catalog, standing)
    lines = quotas.cost_so_far(context.catalog, standing, usage)
    revoked = any(entry.kind is TokenKind.LICENSE for entry in entries)
    limit = device_limit(
        context.catalog, standing, entitled, kept=standing.keeps(now) and not revoked
    )
    return Portal(
        customer_id=customer_id,
        name=row["name"],
        plan=entitled.plan,
        status=standing.status.value,
        trial_ends_at=standing.trial_ends_at,
        period_start=int(usage.start.timestamp()),
        period_end=int(usage.end.timestamp()),
        instance_id=None if live is None else live["instance_id"],
        last_seen_at=(
            None
            if live is None or live["last_seen_at"] is None
            else int(live["last_seen_at"].timestamp())
        ),
        devices=Use(used=sum(d.registered_at is not None for d in devices), limit=limit),
        cameras=Use(
            used=sum(s.held_until is None for s in seats.values()),
            limit=entitled.base_seats + entitled.trial_seats,
        ),
        usage={
            name: MeterUse(
                used=format(value.normalize(), "f"),
                included=(
                    entitled.allowances[name].included if name in entitled.allowances else None
                ),
            )
            for name, value in sorted(usage.used.items())
        },
        currency=context.catalog.currency,
        cost=tuple(
            CostItem(
                line=line.line,
                kind=line.kind,
                description=line.description,
                quantity=format(line.quantity.normalize(), "f"),
                amount=str(line.amount),
            )
            for line in lines
        ),
        total=str(sum((line.amount for line in lines), Decimal("0.00"))),
    )
