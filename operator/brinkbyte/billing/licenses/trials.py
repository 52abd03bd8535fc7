"""SQL of trials: the time of each trial seat, and the one trial of each camera."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from brinkbyte.billing.db import Connection
from brinkbyte.billing.licenses.holdings import TrialSlot


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


async def trial_slots(connection: Connection, tenant_id: str) -> list[TrialSlot]:
    """Return the trial seats that were ever started."""
    cursor = await connection.execute(
        "SELECT slot, started_at, until, camera_id FROM trial_slots WHERE tenant_id = %s",
        [tenant_id],
    )
    return [
        TrialSlot(
            row["slot"],
            int(row["started_at"].timestamp()),
            int(row["until"].timestamp()),
            row["camera_id"],
        )
        for row in await cursor.fetchall()
    ]


async def save_trial_slots(
    connection: Connection, tenant_id: str, slots: Iterable[TrialSlot]
) -> None:
    """Write trial seats; a started one's time never changes."""
    for slot in slots:
        await connection.execute(
            "INSERT INTO trial_slots (tenant_id, slot, started_at, until, camera_id) "
            "VALUES (%s, %s, %s, %s, %s) "
            "ON CONFLICT (tenant_id, slot) DO UPDATE SET camera_id = excluded.camera_id",
            [tenant_id, slot.slot, _at(slot.started_at), _at(slot.until), slot.camera_id],
        )


async def camera_trials(connection: Connection, tenant_id: str) -> dict[str, int]:
    """Return until when each camera that was ever tried may be tried, Unix seconds."""
    cursor = await connection.execute(
        "SELECT camera_id, until FROM camera_trials WHERE tenant_id = %s", [tenant_id]
    )
    return {row["camera_id"]: int(row["until"].timestamp()) for row in await cursor.fetchall()}


async def add_camera_trials(
    connection: Connection, tenant_id: str, trials: Mapping[str, int], now: int
) -> None:
    """Note cameras that are tried from now on; one that was tried before keeps its time."""
    for camera_id, until in trials.items():
        await connection.execute(
            "INSERT INTO camera_trials (tenant_id, camera_id, started_at, until) "
            "VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [tenant_id, camera_id, _at(now), _at(until)],
        )
