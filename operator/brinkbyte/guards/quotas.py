"""The signed quotas of a license as counters: what is included, and how each one ends. Pure.

The license signs how much of a meter is included in a billing period, and how it ends beyond that:

- with overage it goes on without end, each unit beyond is charged, and answers carry a warning;
- a soft limit warns at 100 % and refuses at 120 %, or after 7 days beyond 100 %;
- a hard limit refuses beyond 100 %.

A license of before does not say how. It follows then from what was bought: pooled meters by the
packs held, others by the plan the license names, or else by the plan whose allowance it signs.
Where that tells nothing for certain (an allowance of this customer's own), the limit is hard:
nothing is given away on a guess.

While the vendor has switched validation off, everything goes on and is counted, with a warning.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal

from brinkbyte.catalog import Catalog
from brinkbyte.guards.answers import PAYMENT_REQUIRED, TOO_MANY, WAIVED, Answer, whole
from brinkbyte.license.claims import LicenseClaims
from brinkbyte.license.modes import UPGRADE_URL, ModeDecision
from brinkbyte.store.counters import Counter

Ending = Literal["overage", "soft", "hard", "waived"]
_PERCENT: Final = 100
_BEYOND: Final[dict[Ending, str]] = {
    "overage": "what is beyond is charged",
    "soft": f"it will be refused soon. Upgrade at {UPGRADE_URL}",
    "waived": WAIVED,
}


@dataclass(frozen=True)
class Quota:
    """The limit of one meter now.

    Attributes:
        ending: how it ends; None: unlimited.
        period_ends_at: end of the billing period, UTC; None: a gauge, a level without a period.
        warn_at: use from which answers carry a warning; None: never.
    """

    counter: Counter
    ending: Ending | None
    period_ends_at: datetime | None
    warn_at: Decimal | None

    def answer(
        self, decision: ModeDecision, used: Decimal, *, event_id: str | None = None
    ) -> Answer:
        """Return the answer that allows.

        Args:
            decision: the license's mode.
            used: with this answer's quantity where it was counted.
            event_id: of the event recorded, if one was.
        """
        warning = self.warn_at is not None and used >= self.warn_at
        message = decision.message
        if warning and self.ending is not None:
            message = f"{self._state(used)}: {_BEYOND[self.ending]}"
        return self._answer(True, decision, used, message, warning=warning, event_id=event_id)

    def refusal(self, decision: ModeDecision, used: Decimal, quantity: Decimal, now: int) -> Answer:
        """Return the refusal of a quantity.

        Args:
            decision: the license's mode.
            used: without the quantity.
            quantity: what was asked for.
            now: Unix seconds by the offline clock.
        """
        ends = self.period_ends_at
        cure = (
            "release some, or upgrade"
            if ends is None
            else f"wait for the next period at {ends:%Y-%m-%dT%H:%M:%SZ}, or upgrade"
        )
        return self._answer(
            False,
            decision,
            used,
            f"{self._state(used)}, {whole(quantity)} more do not fit: {cure} at {UPGRADE_URL}",
            status=PAYMENT_REQUIRED if ends is None else TOO_MANY,
            retry_after=None if ends is None else max(1, int(ends.timestamp()) - now),
        )

    def _state(self, used: Decimal) -> str:
        counter = self.counter
        limit = "" if counter.included is None else f" of {whole(counter.included)}"
        return f"{whole(used)}{limit} {counter.meter} are used"

    def _answer(
        self,
        allowed: bool,
        decision: ModeDecision,
        used: Decimal,
        message: str,
        *,
        warning: bool = False,
        status: int = TOO_MANY,
        retry_after: int | None = None,
        event_id: str | None = None,
    ) -> Answer:
        included = self.counter.included
        return Answer(
            allowed,
            self.counter.meter,
            decision.mode,
            decision.reason if allowed else "QuotaExceeded",
            message,
            used=whole(used),
            limit=None if included is None else whole(included),
            remaining=None if included is None else whole(max(Decimal(0), included - used)),
            warning=warning,
            status=status,
            retry_after=retry_after,
            event_id=event_id,
        )


def quota_of(catalog: Catalog, claims: LicenseClaims, meter: str, now: int) -> Quota:
    """Return the limit that a license in force sets for a meter.

    Args:
        catalog: knows the meter's kind and how limits end.
        claims: the license in force.
        meter: a name of the catalog.
        now: Unix seconds by the offline clock.
    """
    allowed = claims.quotas.get(meter)
    included = None if allowed is None else Decimal(allowed)
    ending = None if included is None else _ending(catalog, claims, meter)
    rules = catalog.rules.soft_cap
    ceiling = over_for = warn_at = None
    if included is not None and not claims.flags.license_validation:
        ending, warn_at = "waived", included
    elif included is not None and ending == "hard":
        ceiling = included
    elif included is not None:
        warn_at = included * rules.warn_percent / _PERCENT
        if ending == "soft":
            ceiling = included * rules.refuse_percent / _PERCENT
            over_for = timedelta(days=rules.refuse_after_days_over)
    gauge = catalog.meter(meter).kind == "gauge"
    ends = None if gauge else period_end(claims.subscription.current_period_end, now)
    counter = Counter(claims.customer_id, meter, ends, included, ceiling, over_for)
    return Quota(counter, ending, ends, warn_at)


def _ending(catalog: Catalog, claims: LicenseClaims, meter: str) -> Ending:
    signed = claims.quota_rules.get(meter)
    return _inferred(catalog, claims, meter) if signed is None else signed.value


def _inferred(catalog: Catalog, claims: LicenseClaims, meter: str) -> Ending:
    family = catalog.family(catalog.meter(meter).family)
    pool = family.pools.get(meter)
    if pool is not None:
        overage = pool.overage
        packs = {ref.sku for ref in catalog.pack_refs() if ref.name in claims.tenant_packs}
        if overage is not None and (overage.requires is None or overage.requires in packs):
            return "overage"
        return pool.cap
    listed = [
        (plan.plan_claim, plan.allowances[meter])
        for plan in family.plans.values()
        if meter in plan.allowances
    ]
    matching = [allowance for claim, allowance in listed if claim == claims.plan] or [
        allowance for _, allowance in listed if allowance.included == claims.quotas.get(meter)
    ]
    endings: set[Ending] = {
        "overage" if allowance.overage is not None else allowance.cap or "hard"
        for allowance in matching
    }
    return endings.pop() if len(endings) == 1 else "hard"


def period_end(signed: int | None, now: int) -> datetime:
    """Return the end of the billing period that holds now, UTC.

    Args:
        signed: the end that the license names, Unix seconds; later periods, as the site may be
            offline, end so many months after it. None: periods are UTC calendar months.
        now: Unix seconds.
    """
    moment = datetime.fromtimestamp(now, UTC)
    if signed is None:
        first = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return _months_after(first, 1)
    end = datetime.fromtimestamp(signed, UTC)
    months = max(0, (moment.year - end.year) * 12 + moment.month - end.month)
    found = _months_after(end, months)
    return found if found > moment else _months_after(end, months + 1)


def _months_after(start: datetime, months: int) -> datetime:
    """Return the same day so many months on; the last day of a shorter month."""
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return start.replace(year=year, month=month + 1, day=min(start.day, last))
