"""A quota's answer in HTTP: headers that say the limits, and the refusal."""

from __future__ import annotations

from typing import Final

from brinkbyte.billing.quotas.limits import Verdict, plain
from brinkbyte.kit.problem import ProblemError
from brinkbyte.license.modes import UPGRADE_URL

TOO_MANY: Final = 429
FORBIDDEN: Final = 403
UPGRADE_HEADER: Final = "X-BrinkByte-Upgrade-Url"


def limit_headers(found: Verdict, now: int) -> dict[str, str]:
    """Return the headers of any answer about a quota; unlimited has no limit and no remainder."""
    headers = {
        "X-BrinkByte-Meter": found.quota.limit.meter,
        "X-BrinkByte-Used": plain(found.used),
        UPGRADE_HEADER: UPGRADE_URL,
    }
    if found.included is not None and found.remaining is not None:
        headers["RateLimit-Limit"] = plain(found.included)
        headers["RateLimit-Remaining"] = plain(found.remaining)
        if not found.quota.limit.gauge:
            headers["RateLimit-Reset"] = str(_seconds_left(found, now))
    return headers


def refused(found: Verdict, now: int) -> ProblemError:
    """Return the error of a refusal: 429 beyond a quota, 403 without a plan in force."""
    headers = limit_headers(found, now)
    if found.reason != "QuotaExceeded":
        return ProblemError(
            FORBIDDEN, found.message, reason=found.reason, headers=headers, upgradeUrl=UPGRADE_URL
        )
    if not found.quota.limit.gauge:
        headers["Retry-After"] = str(_seconds_left(found, now))
    return ProblemError(
        TOO_MANY,
        found.message,
        reason=found.reason,
        headers=headers,
        meter=found.quota.limit.meter,
        used=plain(found.used),
        limit=None if found.included is None else plain(found.included),
        remaining=None if found.remaining is None else plain(found.remaining),
        upgradeUrl=UPGRADE_URL,
    )


def _seconds_left(found: Verdict, now: int) -> int:
    return max(1, int(found.quota.period_end.timestamp()) - now)
