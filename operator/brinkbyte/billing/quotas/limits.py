"""Limits of a billing period, and whether a quantity fits them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, Literal

from brinkbyte.catalog import Catalog, Entitlements
from brinkbyte.license.modes import UPGRADE_URL

Ending = Literal["unlimited", "overage", "soft", "hard", "not_bought"]
ZERO: Final = Decimal(0)
PERCENT: Final = 100
_INFORMING: Final = "informing"
_NOT_BOUGHT: Final[Ending] = "not_bought"


@dataclass(frozen=True)
class Limit:
    """What a customer may use of one meter in a billing period.

    Attributes:
        gauge: a level: its newest value counts.
        included: in the meter's unit; None: unlimited.
        ending: what comes beyond it.
        ceiling: use never passes it; None: no end.
        over_for: how long use may stay above ``included``; None: for ever.
    """

    meter: str
    gauge: bool
    included: Decimal | None
    ending: Ending
    ceiling: Decimal | None = None
    over_for: timedelta | None = None


def limits_of(catalog: Catalog, entitled: Entitlements) -> dict[str, Limit]:
    """Return the limit of every meter of the catalog.

    A meter that is priced or limited and that nothing bought speaks of is ``not_bought``; one that
    informs is unlimited.
    """
    rules = catalog.rules.soft_cap
    found: dict[str, Limit] = {}
    for name, meter in catalog.meters.items():
        gauge = meter.kind == "gauge"
        allowance = entitled.allowances.get(name)
        if allowance is None:
            free = meter.billing == _INFORMING or meter.pass_through is not None
            found[name] = Limit(name, gauge, None, "unlimited" if free else _NOT_BOUGHT)
        elif allowance.included is None:
            found[name] = Limit(name, gauge, None, "unlimited")
        else:
            included = Decimal(allowance.included)
            if allowance.overage is not None:
                found[name] = Limit(name, gauge, included, "overage")
            elif allowance.cap == "soft":
                ceiling = included * rules.refuse_percent / PERCENT
                days = timedelta(days=rules.refuse_after_days_over)
                found[name] = Limit(name, gauge, included, "soft", ceiling, days)
            else:
                found[name] = Limit(name, gauge, included, "hard", included)
    return found


@dataclass(frozen=True)
class Quota:
    """A limit with what was used of it.

    Attributes:
        over_since: when use passed what is included; None while it has not.
    """

    limit: Limit
    period_start: datetime
    period_end: datetime
    used: Decimal
    over_since: datetime | None

    def fits(self, quantity: Decimal, now: datetime) -> bool:
        """Tell whether so much more may be used now."""
        limit = self.limit
        if limit.ending == _NOT_BOUGHT:
            return False
        after = self.used + quantity
        if limit.ceiling is not None and after > limit.ceiling:
            return False
        return not (
            limit.over_for is not None
            and limit.included is not None
            and after > limit.included
            and self.over_since is not None
            and self.over_since <= now - limit.over_for
        )


@dataclass(frozen=True)
class Verdict:
    """Whether a quantity of a meter may be used, and what to say about it.

    Attributes:
        used: with the quantity when it was counted, else without it.
        warning: allowed, but at or beyond what is included.
        repeated: it had been counted before, and was not again.
        event_id: of the ledger's event, when it was counted.
    """

    allowed: bool
    quota: Quota
    reason: str
    message: str
    warning: bool = False
    repeated: bool = False
    event_id: str | None = None

    @property
    def used(self) -> Decimal:
        """What was used in the period."""
        return self.quota.used

    @property
    def included(self) -> Decimal | None:
        """What is included; None: unlimited."""
        return self.quota.limit.included

    @property
    def remaining(self) -> Decimal | None:
        """What is left of the included amount, at least 0; None: unlimited."""
        return None if self.included is None else max(ZERO, self.included - self.used)


def verdict(
    quota: Quota,
    quantity: Decimal,
    now: datetime,
    *,
    counted: bool = False,
    repeated: bool = False,
    event_id: str | None = None,
) -> Verdict:
    """Judge a quantity, or word the answer to one that was counted.

    Args:
        quota: as it is; with the quantity when ``counted``.
        quantity: in the meter's unit; 0 asks for the state.
        now: moment.
        counted: the quantity is in ``quota`` already.
        repeated: so it was before this call.
        event_id: the ledger's event.
    """
    limit = quota.limit
    if not counted and not quota.fits(quantity, now):
        return Verdict(False, quota, *_refusal(quota, quantity))
    after = quota.used if counted else quota.used + quantity
    warning = limit.included is not None and after > ZERO and after >= limit.included
    message = ""
    if warning and limit.ending == "overage":
        message = f"{_state(quota)}; what is beyond is charged"
    elif warning and limit.ending == "soft":
        message = f"{_state(quota)}; it will be refused soon. Upgrade at {UPGRADE_URL}"
    elif warning:
        message = f"{_state(quota)}; nothing is left. Upgrade at {UPGRADE_URL}"
    return Verdict(True, quota, "", message, warning, repeated, event_id)


def _refusal(quota: Quota, quantity: Decimal) -> tuple[str, str]:
    limit = quota.limit
    if limit.ending == _NOT_BOUGHT:
        return (
            "NotSubscribed",
            f"{limit.meter} is not in what was bought; choose a plan at {UPGRADE_URL}",
        )
    cure = (
        "release some, or upgrade"
        if limit.gauge
        else f"wait for the next period at {quota.period_end:%Y-%m-%dT%H:%M:%SZ}, or upgrade"
    )
    return (
        "QuotaExceeded",
        f"{_state(quota)}, {plain(quantity)} more do not fit: {cure} at {UPGRADE_URL}",
    )


def _state(quota: Quota) -> str:
    included = quota.limit.included
    limit = "" if included is None else f" of {plain(included)}"
    return f"{plain(quota.used)}{limit} {quota.limit.meter} are used"


def plain(value: Decimal) -> str:
    """Return a quantity as decimal text without trailing zeros or an exponent."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def reached(quota_used: Decimal, included: Decimal | None, percents: tuple[int, ...]) -> int:
    """Return the highest percentage of the list that use has reached; 0: none."""
    if included is None or quota_used <= ZERO:
        return 0
    passed = [p for p in percents if quota_used * PERCENT >= included * p]
    return max(passed, default=0)
