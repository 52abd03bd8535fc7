"""Histories of subscriptions in few words, and invoices as they are put together from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from brinkbyte.catalog import Catalog, Terms
from brinkbyte.rating import (
    Agreement,
    Change,
    History,
    Line,
    MeterUsage,
    Period,
    Usage,
    closing_lines,
    opening_lines,
    period_at,
    total,
)
from brinkbyte.rating.model import Status

TICK = timedelta(microseconds=1)


def day(text: str) -> datetime:
    """Return a moment in UTC: ``2026-11-16`` or ``2026-11-16 09:30``."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def used(quantity: str | int, cost: str = "0") -> MeterUsage:
    """Return usage of a meter."""
    return MeterUsage(quantity=Decimal(quantity), cost=Decimal(cost))


@dataclass
class Story:
    """A subscription told change by change; what a change leaves out stays as it was."""

    anchor: datetime
    changes: list[Change] = field(default_factory=list)

    def then(
        self,
        at: str,
        *,
        plans: dict[str, str] | None = None,
        quantities: dict[str, int] | None = None,
        overrides: dict[str, bool | int | str] | None = None,
        status: Status | None = None,
        agreement: Agreement | None = None,
        ends_at: str | None = None,
        trial_ends_at: str | None = None,
    ) -> Story:
        """Add a change."""
        last = self.changes[-1] if self.changes else None
        terms = last.terms if last is not None else Terms()
        self.changes.append(
            Change(
                at=day(at),
                terms=Terms(
                    plans=dict(terms.plans) if plans is None else plans,
                    quantities=dict(terms.quantities) if quantities is None else quantities,
                    overrides=dict(terms.overrides) if overrides is None else dict(overrides),
                ),
                status=status or (last.status if last is not None else "active"),
                agreement=agreement or (last.agreement if last is not None else Agreement()),
                ends_at=None if ends_at is None else day(ends_at),
                trial_ends_at=None if trial_ends_at is None else day(trial_ends_at),
            )
        )
        return self

    @property
    def history(self) -> History:
        """The history so far."""
        return History(anchor=self.anchor, changes=tuple(self.changes))

    def period(self, at: str) -> Period:
        """Return the billing period that holds a moment."""
        return period_at(self.history, day(at))


def invoice(catalog: Catalog, story: Story, boundary: str, usage: Usage) -> list[Line]:
    """Return an invoice at a boundary: the period that closed, and the one that begins."""
    history, moment = story.history, day(boundary)
    closed: Sequence[Line] = ()
    if history.changes[0].at < moment:
        closed = closing_lines(catalog, history, period_at(history, moment - TICK), usage)
    return [*closed, *opening_lines(catalog, history, period_at(history, moment))]


def rows(lines: Sequence[Line]) -> list[tuple[str, str, str, str]]:
    """Return (line, kind, quantity, amount) of each line, as one would write them down."""
    return [(line.line, line.kind, f"{line.quantity:f}", f"{line.amount:f}") for line in lines]


def summed(catalog: Catalog, lines: Sequence[Line]) -> str:
    """Return the total as text."""
    return f"{total(catalog, lines):f}"
