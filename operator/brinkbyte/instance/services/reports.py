"""What dashboards show, the site's free settings, and how the database does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic.alias_generators import to_camel

from brinkbyte.instance.licensing.service import LicenseService
from brinkbyte.kit.pools import Pool
from brinkbyte.kit.problem import ProblemError
from brinkbyte.store.dashboards import dashboard, database_health, refresh_views
from brinkbyte.store.entitlement_cache import licensed_cameras, sync_entitlements, sync_key
from brinkbyte.store.site_config import all_settings, delete_setting, put_setting

REFRESH_SECONDS: Final = 300.0
MAX_SETTINGS: Final = 1000
_ROWS: Final = 5000


class Reports:
    """Answers from views, and what keeps these up to date.

    Args:
        pool: the instance's database.
        license_service: the license in force.
    """

    def __init__(self, pool: Pool, license_service: LicenseService) -> None:
        self._pool = pool
        self._license = license_service
        self._synced: tuple[Any, ...] | None = None

    async def refresh(self) -> list[str]:
        """Refresh the materialized views, if no replica has lately; return which."""
        every = timedelta(seconds=REFRESH_SECONDS / 2)
        async with self._pool.connection() as connection:
            await connection.set_autocommit(True)
            try:
                return await refresh_views(connection, every=every)
            finally:
                await connection.set_autocommit(False)

    async def sync_entitlements(self) -> None:
        """Bring what the license says into the tables for dashboards, when it changed."""
        policy = self._license.policy()
        key = sync_key(policy)
        if key == self._synced:
            return
        async with self._pool.connection() as connection:
            await sync_entitlements(connection, self._license.customer_id, policy)
        self._synced = key

    async def dashboard(self, days: int) -> dict[str, Any]:
        """``GET /api/v1/dashboard``: no older days than the license lets read."""
        readable = self._license.policy().readable_days
        since = datetime.now(UTC) - timedelta(days=min(days, readable or days))
        async with self._pool.connection() as connection:
            found = await dashboard(connection, self._license.customer_id, since=since, limit=_ROWS)
        return {"since": since, **_camel(found)}

    async def licensed_cameras(self, after: str, limit: int) -> dict[str, Any]:
        """``GET /api/v1/license/cameras``."""
        policy = self._license.policy()
        async with self._pool.connection() as connection:
            found = await licensed_cameras(
                connection, self._license.customer_id, after=after, limit=limit + 1
            )
        page = found[:limit]
        return {
            "mode": policy.decision.mode.value,
            "inForce": policy.decision.full,
            "cameras": _camel(page),
            "next": page[-1]["camera_id"] if len(found) > limit else None,
        }

    async def database(self) -> dict[str, Any]:
        """``GET /api/v1/database``."""
        async with self._pool.connection() as connection:
            found: dict[str, Any] = _camel(await database_health(connection))
        return found

    async def settings(self) -> dict[str, Any]:
        """``GET /api/v1/config``."""
        async with self._pool.connection() as connection:
            return await all_settings(connection, self._license.customer_id)

    async def set_setting(self, key: str, value: Any) -> dict[str, Any]:
        """Set a setting; ProblemError 409 when there are too many."""
        async with self._pool.connection() as connection:
            kept = await put_setting(
                connection, self._license.customer_id, key, value, most=MAX_SETTINGS
            )
        if not kept:
            raise ProblemError(
                409, f"there are {MAX_SETTINGS} settings already; delete one", reason="TooMany"
            )
        return {"key": key, "value": value}

    async def delete_setting(self, key: str) -> None:
        """Remove a setting; ProblemError 404 when there is none."""
        async with self._pool.connection() as connection:
            if not await delete_setting(connection, self._license.customer_id, key):
                raise ProblemError(404, f"there is no setting {key!r}", reason="NotFound")


def _camel(value: Any) -> Any:
    """Return rows as the API spells them: names of columns in camel case."""
    if isinstance(value, dict):
        return {to_camel(name): _camel(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_camel(item) for item in value]
    return value
