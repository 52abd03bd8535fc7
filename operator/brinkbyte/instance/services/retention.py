"""How long telemetry is kept. A cut counts 90 days after it was announced under a valid license.

While the license is not in force nothing is dropped, however long that lasts; and when it is back,
what was kept meanwhile stays for another 90 days, so that it can be read and exported first.

Pure: what was decided before, what the license says and the time are arguments.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import Field

from brinkbyte.kit.model import OpenWireModel
from brinkbyte.license.claims import UnixTime

_DAY_SECONDS: Final = 86_400
NOTICE_SECONDS: Final = 90 * _DAY_SECONDS


class RetentionState(OpenWireModel):
    """What is in force, and a cut that was announced. ``days`` None: nothing is ever dropped.

    ``in_force_at`` is when the license was last seen in force, to the day; ``frozen_at`` is the
    same once it is not, ``thawed_at`` when it was seen in force again. A later release may have
    written more members: passed over, so that one can go back.
    """

    days: int | None = Field(None, ge=1)
    announced_days: int | None = Field(None, ge=1)
    announced_at: UnixTime | None = None
    in_force_at: UnixTime | None = None
    frozen_at: UnixTime | None = None
    thawed_at: UnixTime | None = None

    @property
    def cut_at(self) -> int | None:
        """When the announced cut counts, Unix seconds; under a valid license only."""
        return None if self.announced_at is None else self.announced_at + NOTICE_SECONDS


def allowed_days(licensed: int | None, wanted: int | None) -> int | None:
    """Return the days that the license and the operator's wish come to; None: no limit."""
    limits = [days for days in (licensed, wanted) if days is not None]
    return max(1, min(limits)) if limits else None


def decide_retention(
    kept: RetentionState | None, *, full: bool, allowed: int | None, now: int
) -> RetentionState | None:
    """Return the retention in force.

    Args:
        kept: what was in force before; None: there never was a license here.
        full: whether the license is in force. Otherwise everything stays frozen.
        allowed: days by license and wish, see :func:`allowed_days`; None: no limit.
        now: Unix seconds by the offline clock.

    Returns:
        None as long as there was never a license; what holds then is the unlicensed plan.
    """
    if kept is None:
        return RetentionState(days=allowed, in_force_at=now) if full else None
    if not full:
        if kept.frozen_at is not None and kept.thawed_at is None:
            return kept
        # Frozen again while it thaws: what was kept before is still kept.
        frozen_at = kept.frozen_at
        if frozen_at is None:
            frozen_at = now if kept.in_force_at is None else min(now, kept.in_force_at)
        return kept.model_copy(update={"frozen_at": frozen_at, "thawed_at": None})
    held = _thawed(_seen_in_force(kept, now), now)
    if not _is_cut(kept.days, allowed):
        return held.model_copy(
            update={"days": allowed, "announced_days": None, "announced_at": None}
        )
    if kept.announced_at is None or kept.announced_days != allowed:
        return held.model_copy(update={"announced_days": allowed, "announced_at": now})
    if now - kept.announced_at >= NOTICE_SECONDS:
        return RetentionState(days=allowed, in_force_at=held.in_force_at)
    return held


def oldest_kept(state: RetentionState, now: datetime) -> datetime | None:
    """Return the first instant whose data stays under a license in force; None: all does."""
    if state.days is None:
        return None
    since = now
    if state.frozen_at is not None:
        since = min(now, datetime.fromtimestamp(state.frozen_at, UTC))
    return since - timedelta(days=state.days)


def _seen_in_force(kept: RetentionState, now: int) -> RetentionState:
    """Note that the license is in force, once a day."""
    seen = kept.in_force_at
    if seen is not None and seen <= now < seen + _DAY_SECONDS:
        return kept
    return kept.model_copy(update={"in_force_at": now})


def _thawed(kept: RetentionState, now: int) -> RetentionState:
    if kept.frozen_at is None:
        return kept
    if kept.thawed_at is None:
        return kept.model_copy(update={"thawed_at": now})
    if now - kept.thawed_at >= NOTICE_SECONDS:
        return kept.model_copy(update={"frozen_at": None, "thawed_at": None})
    return kept


def _is_cut(days: int | None, allowed: int | None) -> bool:
    return allowed is not None and (days is None or allowed < days)
