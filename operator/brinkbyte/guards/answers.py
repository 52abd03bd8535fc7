"""What a guard answers, and the errors a refusal or a failure becomes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final, TypeAlias

from brinkbyte.kit.errors import TemporaryError
from brinkbyte.kit.problem import ProblemError
from brinkbyte.license.modes import UPGRADE_URL, LicenseMode
from brinkbyte.metering.events import quantity_text

Amount: TypeAlias = int | Decimal
"""A quantity in a meter's unit; whole ones are integers."""
PAYMENT_REQUIRED: Final = 402
FORBIDDEN: Final = 403
TOO_MANY: Final = 429
WAIVED: Final = "not refused, as the vendor has switched validation off"
"""What the message of an answer says that allows in place of a refusal."""


@dataclass(frozen=True)
class Answer:
    """Whether something may go on, and why.

    Attributes:
        allowed: whether it may.
        entitlement: what was asked for: a feature, ``maxDevices``, ``subscription``, a meter.
        mode: of the license.
        reason: stable CamelCase word.
        message: one sentence for a person; a refusal's ends in where to upgrade.
        used: of the limit, this answer's own quantity included where it was counted.
        limit: what is included; None: unlimited, or not a matter of numbers.
        remaining: what is left of the limit, 0 beyond it; None: unlimited, or no number.
        warning: use has reached the limit and went on: soft limit, overage that is charged, or
            validation that is switched off.
        status: HTTP status of a refusal.
        retry_after: seconds until a refusal may end by itself; None: only a purchase ends it.
        event_id: of the usage event that was recorded; None: none was.
    """

    allowed: bool
    entitlement: str
    mode: LicenseMode
    reason: str
    message: str
    used: Amount | None = None
    limit: Amount | None = None
    remaining: Amount | None = None
    warning: bool = False
    status: int = FORBIDDEN
    retry_after: int | None = None
    event_id: str | None = None

    def waived(self) -> Answer:
        """Return the answer that validation gives while it is off: yes, and what it would say."""
        if self.allowed:
            return self
        return replace(self, allowed=True, warning=True, message=f"{WAIVED}: {self.message}")

    def or_raise(self) -> Answer:
        """Return the answer if it allows.

        Raises:
            EntitlementEnforcementError: it refuses.
        """
        if not self.allowed:
            raise EntitlementEnforcementError(self)
        return self


class EntitlementEnforcementError(ProblemError):
    """The license does not allow it; nothing was counted.

    ``install_problem_handlers`` makes it problem+json of status 402 (buy more), 403 (the license is
    not in force) or 429 (used up for this period; ``Retry-After`` says when the next one begins).

    Attributes:
        answer: the refusal.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        headers = {} if answer.retry_after is None else {"Retry-After": str(answer.retry_after)}
        super().__init__(
            answer.status,
            answer.message,
            reason=answer.reason,
            headers=headers,
            entitlement=answer.entitlement,
            mode=answer.mode.value,
            used=_plain(answer.used),
            limit=_plain(answer.limit),
            remaining=_plain(answer.remaining),
            upgradeUrl=UPGRADE_URL,
        )


class BillingProviderError(TemporaryError):
    """It could not be decided or recorded now: try again. problem+json 503 with ``Retry-After``.

    Reasons: ``DatabaseUnavailable`` (whether the usage was recorded is not known: send it again
    with the ``key`` it had) and ``GuardsNotOpen``.
    """


def whole(value: Decimal) -> Amount:
    """Return an integer where the value is one."""
    return int(value) if value == value.to_integral_value() else value


def _plain(value: Amount | None) -> Any:
    """Return what JSON holds exactly: integers, and decimal text for the rest."""
    return quantity_text(value) if isinstance(value, Decimal) else value
