"""Alerts at the catalog's percentages of what is included, once a billing period each."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.notifications.outbox import Kind, enqueue
from brinkbyte.billing.quotas import repository
from brinkbyte.billing.quotas.limits import PERCENT, plain
from brinkbyte.catalog import Catalog
from brinkbyte.license.modes import UPGRADE_URL

_TENTH: Final = Decimal("0.1")


def kind_of(percent: int) -> Kind:
    """Return what people are told of at a percentage."""
    if percent < PERCENT:
        return Kind.LIMIT_APPROACHING
    return Kind.LIMIT_REACHED if percent == PERCENT else Kind.LIMIT_EXCEEDED


async def raise_crossed(
    connection: Connection, catalog: Catalog, tenant_id: str, crossed: Iterable[Row], now: int
) -> None:
    """Write alerts and their notifications for quotas that have reached further percentages.

    Args:
        connection: the transaction in which they did.
        catalog: knows titles, units and percentages.
        tenant_id: whose quotas.
        crossed: see :class:`brinkbyte.billing.quotas.repository.Counted`.
        now: Unix seconds.
    """
    moment = datetime.fromtimestamp(now, UTC)
    for row in crossed:
        for percent in catalog.rules.alert_percents:
            if not row["alerted"] < percent <= row["reached"]:
                continue
            if not await repository.add_alert(connection, tenant_id, row, percent, moment):
                continue
            meter = catalog.meters[row["meter"]]
            start: datetime = row["period_start"]
            used, included = row["used"], row["included"]
            await enqueue(
                connection,
                tenant_id,
                kind_of(percent),
                key=f"quota:{row['meter']}:{start:%Y-%m-%d}:{percent}",
                payload={
                    "meter": row["meter"],
                    "title": meter.title,
                    "unit": meter.unit,
                    "percent": percent,
                    "ending": row["ending"],
                    "used": plain(used),
                    "included": plain(included),
                    "usedPercent": (
                        None
                        if not included
                        else plain((used * PERCENT / included).quantize(_TENTH))
                    ),
                    "periodStart": start.isoformat(),
                    "periodEnd": row["period_end"].isoformat(),
                    "upgradeUrl": UPGRADE_URL,
                },
                now=now,
            )
