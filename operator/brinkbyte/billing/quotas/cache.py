"""Quotas in Redis, shared by the servers: looks without the database. Losing it costs speed only.

What counts never relies on it to allow. A look may be :data:`FRESH_SECONDS` old, so a caller that
only looks before it uses can pass a limit by what is used meanwhile; it may be refused as long
after something was bought, unless :meth:`QuotaCache.forget` was called.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import redis.asyncio as redis
from redis.exceptions import RedisError

from brinkbyte.billing.quotas.limits import Limit, Quota
from brinkbyte.billing.subscriptions.standing import Standing
from brinkbyte.catalog import Terms
from brinkbyte.kit.logging import get_logger
from brinkbyte.license.claims import SubscriptionStatus

FRESH_SECONDS: Final = 2
_FORM: Final = 1
_PREFIX: Final = "brinkbyte:quota"
_TIMEOUT_SECONDS: Final = 0.2
_REST_SECONDS: Final = 2.0
_log = get_logger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """A meter's quota and the standing of its customer, at one moment."""

    quota: Quota
    standing: Standing


class QuotaCache:
    """Snapshots in Redis; every failure is an empty answer and a short rest.

    Args:
        url: of Redis; None: nothing is kept.
        monotonic: seconds that never go back.
    """

    def __init__(self, url: str | None, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._rest_until = float("-inf")
        self._client = (
            None
            if url is None
            else redis.Redis.from_url(
                url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
            )
        )

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def get(self, tenant_id: str, meter: str, now: int) -> Snapshot | None:
        """Return a snapshot that is fresh and of the period that runs; None: look yourself."""
        client = self._ready()
        if client is None:
            return None
        try:
            text = await client.hget(_key(tenant_id), meter)
        except (RedisError, OSError) as error:
            self._rest(error)
            return None
        if text is None:
            return None
        try:
            return _read(json.loads(text), meter, now)
        except (ValueError, KeyError, TypeError, ArithmeticError):
            # Another release's form, or somebody else's.
            return None

    async def put(self, tenant_id: str, meter: str, found: Snapshot, now: int) -> None:
        """Keep a snapshot; a failure is forgotten."""
        client = self._ready()
        if client is None:
            return
        key = _key(tenant_id)
        try:
            async with client.pipeline(transaction=False) as pipeline:
                pipeline.hset(key, meter, json.dumps(_written(found, now)))
                pipeline.expire(key, FRESH_SECONDS)
                await pipeline.execute()
        except (RedisError, OSError) as error:
            self._rest(error)

    async def forget(self, tenant_id: str) -> None:
        """Drop a customer's snapshots: call it after a commit that changed what is bought."""
        client = self._ready()
        if client is None:
            return
        try:
            await client.delete(_key(tenant_id))
        except (RedisError, OSError) as error:
            self._rest(error)

    def _ready(self) -> redis.Redis | None:
        return None if self._monotonic() < self._rest_until else self._client

    def _rest(self, error: Exception) -> None:
        self._rest_until = self._monotonic() + _REST_SECONDS
        _log.warning("redis is passed over for a while", error=type(error).__name__)


def _key(tenant_id: str) -> str:
    return f"{_PREFIX}:{tenant_id}"


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def _written(found: Snapshot, now: int) -> dict[str, Any]:
    quota, standing = found.quota, found.standing
    limit = quota.limit
    return {
        "form": _FORM,
        "at": now,
        "start": _seconds(quota.period_start),
        "end": _seconds(quota.period_end),
        "gauge": limit.gauge,
        "included": None if limit.included is None else str(limit.included),
        "ending": limit.ending,
        "ceiling": None if limit.ceiling is None else str(limit.ceiling),
        "overFor": None if limit.over_for is None else int(limit.over_for.total_seconds()),
        "used": str(quota.used),
        "overSince": _seconds(quota.over_since),
        "subscription": standing.subscription_id,
        "status": standing.status.value,
        "trialEnd": standing.trial_ends_at,
        "hardEnd": standing.hard_end,
        "due": standing.payment_due_at,
    }


def _read(held: dict[str, Any], meter: str, now: int) -> Snapshot | None:
    # One expiry for all of a customer's meters: each entry says its own age.
    if held["form"] != _FORM or not 0 <= now - held["at"] <= FRESH_SECONDS:
        return None
    if not held["start"] <= now < held["end"]:
        return None
    decimal = {name: held[name] and Decimal(held[name]) for name in ("included", "ceiling")}
    over_for = held["overFor"]
    limit = Limit(
        meter,
        held["gauge"],
        decimal["included"],
        held["ending"],
        decimal["ceiling"],
        None if over_for is None else timedelta(seconds=over_for),
    )
    over_since = held["overSince"]
    quota = Quota(
        limit,
        datetime.fromtimestamp(held["start"], UTC),
        datetime.fromtimestamp(held["end"], UTC),
        Decimal(held["used"]),
        None if over_since is None else datetime.fromtimestamp(over_since, UTC),
    )
    standing = Standing(
        held["subscription"],
        Terms(),
        SubscriptionStatus(held["status"]),
        None,
        held["trialEnd"],
        held["hardEnd"],
        held["due"],
    )
    return Snapshot(quota, standing)
