"""How long telemetry is kept. A cut counts 90 days after it was announced under a valid license.

Pure: what was decided before, what the license says and the time are arguments.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from brinkbyte.kit.model import OpenWireModel
from brinkbyte.license.claims import UnixTime

NOTICE_SECONDS: Final = 90 * 86_400


class RetentionState(OpenWireModel):
    """What is in force, and a cut that was announced. ``days`` None: nothing is ever dropped.

    A later release may have written more members: passed over, so that one can go back.
    """

    days: int | None = Field(None, ge=1)
    announced_days: int | None = Field(None, ge=1)
    announced_at: UnixTime | None = None


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
    if not full:
        return kept
    if kept is None or not _is_cut(kept.days, allowed):
        return RetentionState(days=allowed)
    if kept.announced_at is None or kept.announced_days != allowed:
        return RetentionState(days=kept.days, announced_days=allowed, announced_at=now)
    if now - kept.announced_at >= NOTICE_SECONDS:
        return RetentionState(days=allowed)
    return kept


def _is_cut(days: int | None, allowed: int | None) -> bool:
    return allowed is not None and (days is None or allowed < days)
