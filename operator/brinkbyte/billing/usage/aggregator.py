"""What the aggregates tell people: sums of a period, trends, projections, who uses most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import psycopg

from brinkbyte.billing.db import Connection, Database, Row
from brinkbyte.billing.subscriptions import history
from brinkbyte.billing.subscriptions.standing import period_of, standing_of
from brinkbyte.billing.usage import sums
from brinkbyte.billing.usage.periods import ZERO, projected, usage_of
from brinkbyte.billing.usage.sums import Consumer, Grain
from brinkbyte.catalog import Catalog
from brinkbyte.catalog.model import Meter
from brinkbyte.kit.problem import ProblemError
from brinkbyte.rating.model import MeterUsage

LONGEST: Final[dict[Grain, int]] = {"minute": 2, "hour": 35, "day": 400}
"""Days of a trend at most: no answer has more than 2,880 points."""
TOP_DAYS: Final = 35
TOP_MILLISECONDS: Final = 10_000
_STEPS: Final[dict[Grain, timedelta]] = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
}
_JUST: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class Point:
    """A bucket of a trend; of a gauge ``quantity`` is the newest value, before the first one 0."""

    at: datetime
    quantity: Decimal
    events: int


@dataclass(frozen=True)
class Trend:
    """The last days of a meter, every bucket up to now, also those without events.

    Attributes:
        change_percent: the newer half of the time against the older one (a gauge: mean of the
            buckets); None: the older half has nothing.
    """

    meter: str
    grain: Grain
    points: tuple[Point, ...]
    change_percent: Decimal | None


@dataclass(frozen=True)
class TopConsumer:
    """A camera, device or customer, and what it used."""

    consumer: str
    quantity: Decimal
    events: int


@dataclass(frozen=True)
class Summary:
    """What was used in a billing period, by meter.

    Attributes:
        projection: what the period will come to; see ``periods.projected``.
    """

    start: datetime
    end: datetime
    used: dict[str, MeterUsage]
    projection: dict[str, Decimal]


class UsageAggregator:
    """Reads the aggregates of one customer at a time, and across customers for the vendor.

    Args:
        database: transactions of the role ``brinkbyte_api`` (or ``brinkbyte_admin``).
        catalog: knows the meters.
        now: the present, UTC.
        across: transactions that look across customers.
    """

    def __init__(
        self, database: Database, catalog: Catalog, now: datetime, across: Database | None = None
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._now = now
        self._across = across

    def meters(self, metric: str) -> tuple[str, ...]:
        """Return the meters of a name: a meter's own, or of what it measures (``llm_tokens``).

        Raises:
            ProblemError: 404 ``UnknownMetric``.
        """
        if metric in self._catalog.meters:
            return (metric,)
        found = tuple(n for n, meter in self._catalog.meters.items() if meter.measures == metric)
        if not found:
            raise ProblemError(
                404,
                "there is no such meter; GET /api/billing/usage names those of this account",
                reason="UnknownMetric",
            )
        return found

    def _meter(self, name: str) -> Meter:
        (found, *_) = self.meters(name)
        return self._catalog.meters[found]

    async def get_summary(
        self, tenant_id: str, *, meters: Sequence[str] | None = None, periods_ago: int = 0
    ) -> Summary:
        """Return what was used in a billing period.

        Args:
            tenant_id: whose.
            meters: only these; None: all.
            periods_ago: 0 is the present one, 1 the one before.
        """
        async with self._database.tenant(tenant_id) as connection:
            return await self.summary_in(
                connection, tenant_id, meters=meters, periods_ago=periods_ago
            )

    async def summary_in(
        self,
        connection: Connection,
        tenant_id: str,
        *,
        meters: Sequence[str] | None = None,
        periods_ago: int = 0,
    ) -> Summary:
        """As :meth:`get_summary`, in the caller's transaction."""
        now = int(self._now.timestamp())
        row = await history.current(connection, self._catalog, tenant_id, now)
        standing = standing_of(row)
        start, end = standing.period(now)
        for _ in range(periods_ago):
            start, end = period_of(standing.period_anchor or start, start - _JUST)
        vector = await sums.period_vector(connection, tenant_id, start, end, meters=meters)
        used = usage_of(self._catalog, vector, start, min(end, self._now + _JUST))
        return Summary(
            start,
            end,
            used,
            {
                name: projected(
                    usage.quantity,
                    gauge=self._catalog.meters[name].kind == "gauge",
                    start=start,
                    end=end,
                    now=self._now,
                )
                for name, usage in used.items()
            },
        )

    async def get_usage_trends(
        self, tenant_id: str, meter: str, days: int = 30, grain: Grain = "day"
    ) -> Trend:
        """Return the last days of a meter, today included.

        Raises:
            ProblemError: 422 ``TooManyDays`` for this grain; 404 ``UnknownMetric``.
        """
        gauge = self._meter(meter).kind == "gauge"
        if not 1 <= days <= LONGEST[grain]:
            raise ProblemError(
                422,
                f"a trend by {grain} has 1 to {LONGEST[grain]} days; ask for fewer, or by a "
                "longer grain",
                reason="TooManyDays",
            )
        start = self._midnight() - timedelta(days=days - 1)
        async with self._database.tenant(tenant_id) as connection:
            rows = await sums.buckets(
                connection, tenant_id, meter, grain=grain, start=start, end=self._now
            )
            before: Decimal | None = None
            if gauge:
                vector = await sums.period_vector(
                    connection, tenant_id, start, start, meters=[meter]
                )
                before = None if meter not in vector else vector[meter].before
        points = _points(rows, start, self._now, _STEPS[grain], before=before, gauge=gauge)
        return Trend(meter, grain, points, _change(points))

    async def get_top_consumers(
        self,
        meter: str,
        *,
        tenant_id: str | None = None,
        by: Consumer | None = None,
        days: int = 7,
        limit: int = 10,
    ) -> tuple[TopConsumer, ...]:
        """Return who used most of a meter in the last days, today included.

        Args:
            meter: which.
            tenant_id: of this customer ``by`` camera or device; None: which customers.
            by: camera (default) or device.
            days: up to 35.
            limit: how many.

        Raises:
            ProblemError: 404 ``UnknownMetric``; 422 ``TooManyDays``, also where there are more
                events than can be added up at once; 503 ``AdministrationUnavailable``.
        """
        gauge = self._meter(meter).kind == "gauge"
        if not 1 <= days <= TOP_DAYS:
            raise ProblemError(422, f"ask for 1 to {TOP_DAYS} days", reason="TooManyDays")
        start, end = self._midnight() - timedelta(days=days - 1), self._now + timedelta(days=1)
        if tenant_id is None:
            if self._across is None:
                raise ProblemError(
                    503,
                    "this server may not look across customers: set "
                    "BRINKBYTE_ADMIN_DATABASE_URL for it",
                    reason="AdministrationUnavailable",
                )
            async with self._across.nobody() as connection:
                rows = await sums.top_tenants(
                    connection, meter, start=start, end=end, limit=limit, gauge=gauge
                )
        else:
            try:
                async with self._database.tenant(tenant_id) as connection:
                    rows = await sums.top_of_tenant(
                        connection,
                        tenant_id,
                        meter,
                        by=by or "camera",
                        start=start,
                        end=end,
                        limit=limit,
                        gauge=gauge,
                        timeout_ms=TOP_MILLISECONDS,
                    )
            except psycopg.errors.QueryCanceled:
                raise ProblemError(
                    422,
                    f"there are too many events in {days} days; ask for fewer",
                    reason="TooManyDays",
                ) from None
        return tuple(TopConsumer(r["consumer"], r["quantity"], r["events"]) for r in rows)

    def _midnight(self) -> datetime:
        return self._now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _points(
    rows: Sequence[Row],
    start: datetime,
    now: datetime,
    step: timedelta,
    *,
    before: Decimal | None,
    gauge: bool,
) -> tuple[Point, ...]:
    held = {row["bucket"]: row for row in rows}
    points: list[Point] = []
    last, at = before or ZERO, start
    while at <= now:
        row = held.get(at)
        if row is None:
            points.append(Point(at, last if gauge else ZERO, 0))
        else:
            last = row["last_quantity"]
            points.append(Point(at, last if gauge else row["quantity"], row["events"]))
        at += step
    return tuple(points)


def _change(points: Sequence[Point]) -> Decimal | None:
    half = len(points) // 2
    older = sum((point.quantity for point in points[:half]), ZERO)
    newer = sum((point.quantity for point in points[len(points) - half :]), ZERO)
    if not older:
        return None
    return ((newer - older) * 100 / older).quantize(Decimal("0.1"))
