"""Lists across customers for the vendor, a page at a time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from brinkbyte.billing.administration import listing_repository as repository
from brinkbyte.billing.administration.listing_schemas import (
    AuditLog,
    AuditRow,
    CustomerRow,
    Customers,
    DeviceRow,
    Devices,
    LicenseRow,
    Licenses,
    Metering,
    MeteringRow,
    SiteRow,
    Sites,
)
from brinkbyte.billing.db import Database
from brinkbyte.billing.licenses.service import mode_of
from brinkbyte.billing.paging import Page
from brinkbyte.billing.subscriptions.standing import entitlements_of, standing_of
from brinkbyte.catalog import Catalog, CatalogError

SILENT_SECONDS: Final = 3600
"""An instance says something every few minutes."""


def _standing(
    catalog: Catalog, row: dict[str, Any] | None, *, revoked: bool, now: int
) -> dict[str, str]:
    standing = standing_of(row)
    try:
        plan = entitlements_of(catalog, standing).plan
    except CatalogError:
        # Bought under a price list that this server does not have.
        plan = "unknown"
    return {
        "plan": plan,
        "status": standing.status_at(now).value,
        "mode": mode_of(standing, revoked=revoked, now=now).value,
    }


async def customers(
    database: Database, catalog: Catalog, page: Page, *, search: str | None, now: int
) -> Customers:
    """Return customers by id; ``search`` is looked for in id and name."""
    async with database.nobody() as connection:
        found = await repository.customers(
            connection, search=search, after=page.text(), limit=page.fetch
        )
        rows, following = page.cut(found, lambda row: str(row["tenant_id"]))
        bought = await repository.subscriptions(connection, [row["tenant_id"] for row in rows])
    listed = []
    for row in rows:
        subscription = bought.get(row["tenant_id"])
        standing = _standing(catalog, subscription, revoked=row["revoked"], now=now)
        listed.append(
            CustomerRow(
                customer_id=row["tenant_id"],
                name=row["name"],
                created_at=_seconds(row["created_at"]),
                plan=standing["plan"],
                status=standing["status"],
                license_mode=standing["mode"],
                instance_id=row["instance_id"],
                last_seen_at=_maybe(row["last_seen_at"]),
            )
        )
    return Customers(customers=tuple(listed), next=following)


async def instances(
    database: Database, page: Page, *, customer_id: str | None, ended: bool
) -> Sites:
    """Return instances by customer."""
    async with database.nobody() as connection:
        found = await repository.instances(
            connection,
            customer_id=customer_id,
            ended=ended,
            after=page.texts(2),
            limit=page.fetch,
        )
    rows, following = page.cut(found, lambda row: (row["tenant_id"], row["instance_id"]))
    return Sites(
        instances=tuple(
            SiteRow(
                customer_id=row["tenant_id"],
                instance_id=row["instance_id"],
                name=row["name"],
                created_at=_seconds(row["created_at"]),
                ended_at=_maybe(row["ended_at"]),
                ended_reason=row["ended_reason"],
                air_gapped=row["air_gapped"],
                last_seen_at=_maybe(row["last_seen_at"]),
                version=row["seen_version"],
                devices_online=row["devices_online"],
                clone_alarm=row["clone_alarm_at"] is not None,
            )
            for row in rows
        ),
        next=following,
    )


async def devices(database: Database, page: Page, *, customer_id: str | None) -> Devices:
    """Return devices by customer and name."""
    async with database.nobody() as connection:
        found = await repository.devices(
            connection, customer_id=customer_id, after=page.texts(2), limit=page.fetch
        )
    rows, following = page.cut(found, lambda row: (row["tenant_id"], row["name"]))
    return Devices(
        devices=tuple(
            DeviceRow(
                customer_id=row["tenant_id"],
                name=row["name"],
                hardware_id=row["hardware_id"],
                management_tier=row["management_tier"],
                site=row["site"],
                declared_at=_seconds(row["declared_at"]),
                registered_at=_maybe(row["registered_at"]),
                reason=row["reason"],
            )
            for row in rows
        ),
        next=following,
    )


async def licenses(database: Database, catalog: Catalog, page: Page, *, now: int) -> Licenses:
    """Return the newest license of each customer."""
    async with database.nobody() as connection:
        found = await repository.licenses(connection, after=page.text(), limit=page.fetch)
        rows, following = page.cut(found, lambda row: str(row["tenant_id"]))
        bought = await repository.subscriptions(connection, [row["tenant_id"] for row in rows])
    return Licenses(
        licenses=tuple(
            LicenseRow(
                customer_id=row["tenant_id"],
                instance_id=row["instance_id"],
                sequence=row["sequence"],
                issued_at=_seconds(row["issued_at"]),
                expires_at=_seconds(row["expires_at"]),
                held_sequence=row["seen_license_sequence"],
                **_standing(catalog, bought.get(row["tenant_id"]), revoked=row["revoked"], now=now),
            )
            for row in rows
        ),
        next=following,
    )


async def metering(database: Database, page: Page, *, now: int) -> Metering:
    """Return how far the metering of each live instance is."""
    async with database.nobody() as connection:
        found = await repository.metering(connection, after=page.text(), limit=page.fetch)
    rows, following = page.cut(found, lambda row: str(row["tenant_id"]))
    return Metering(
        metering=tuple(
            MeteringRow(
                customer_id=row["tenant_id"],
                instance_id=row["instance_id"],
                air_gapped=row["air_gapped"],
                last_seen_at=_maybe(row["last_seen_at"]),
                backlog=row["backlog"],
                last_batch_at=_maybe(row["received_at"]),
                last_batch_no=row["batch_no"],
                quarantined=row["quarantined"],
                silent=not row["air_gapped"]
                and (_maybe(row["last_seen_at"]) or 0) < now - SILENT_SECONDS,
            )
            for row in rows
        ),
        next=following,
    )


async def audit_log(
    database: Database,
    page: Page,
    *,
    own: bool,
    filters: dict[str, str | None],
    since: int | None,
    until: int | None,
) -> AuditLog:
    """Return entries of the audit log, newest first; ``since`` and ``until`` in Unix seconds."""
    async with database.nobody() as connection:
        found = await repository.audit_entries(
            connection,
            own=own,
            filters=filters,
            since=_moment(since),
            until=_moment(until),
            before=page.uuid(),
            limit=page.fetch,
        )
    rows, following = page.cut(found, lambda row: str(row["id"]))
    return AuditLog(
        entries=tuple(
            AuditRow(
                id=str(row["id"]),
                at=_seconds(row["at"]),
                customer_id=row["tenant_id"],
                actor=row["actor"],
                action=row["action"],
                subject=row["subject"],
                details=row["details"],
            )
            for row in rows
        ),
        next=following,
    )


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _maybe(moment: datetime | None) -> int | None:
    return None if moment is None else _seconds(moment)
