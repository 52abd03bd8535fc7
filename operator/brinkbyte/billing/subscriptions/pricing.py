"""What a change costs, line by line, from rating alone. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from brinkbyte.billing.db import Row
from brinkbyte.billing.subscriptions import history
from brinkbyte.billing.subscriptions.history import Recorded
from brinkbyte.billing.subscriptions.schemas import Cost, LineItem, Preview
from brinkbyte.catalog import Catalog
from brinkbyte.rating import closing_lines, opening_lines, period_at, total
from brinkbyte.rating.model import Change, History, Line, Period


def plain(number: Decimal) -> str:
    """Return a decimal without exponent and without zeros at its end."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def line_item(line: Line) -> LineItem:
    """Return a line as it is answered."""
    return LineItem(
        line=line.line,
        kind=line.kind,
        description=line.description,
        quantity=plain(line.quantity),
        unit_price=None if line.unit_price is None else format(line.unit_price, "f"),
        per=line.per,
        days=line.days,
        of_days=line.of_days,
        period_start=int(line.period.start.timestamp()),
        period_end=int(line.period.end.timestamp()),
        amount=format(line.amount, "f"),
    )


def cost(catalog: Catalog, lines: Sequence[Line], invoiced_at: int) -> Cost:
    """Return lines with their sum."""
    return Cost(
        invoiced_at=invoiced_at,
        lines=tuple(line_item(line) for line in lines),
        total=format(total(catalog, lines), "f"),
    )


def annual_percent(catalog: Catalog) -> Decimal:
    """Return what the price list takes off twelve months paid ahead; an empty one is nothing."""
    listed = catalog.rules.annual_payment.percent
    return Decimal(0) if listed is None else listed


def preview(
    catalog: Catalog, row: Row | None, changes: Sequence[Recorded], wanted: Change, *, plan: str
) -> Preview:
    """Return what a change costs now and what the next period then costs.

    Args:
        catalog: the price list.
        row: the subscription; None: the change makes it.
        changes: so far.
        wanted: the change.
        plan: that it is for.
    """
    midnight = wanted.at.replace(hour=0, minute=0, second=0, microsecond=0)
    anchor = midnight if row is None else row["period_anchor"]
    before = tuple(recorded.change for recorded in changes)
    wanted = history.after(before[-1] if before else None, wanted)
    after = History(anchor=anchor, changes=(*before, wanted))
    period = period_at(after, wanted.at)
    following = period_at(after, period.end)
    if before:
        lines = _added(catalog, History(anchor=anchor, changes=before), after, period)
        due = int(period.end.timestamp())
    else:
        # What is bought is invoiced when it is bought; one-time items when the period closes.
        lines = (*opening_lines(catalog, after, period), *closing_lines(catalog, after, period, {}))
        due = int(wanted.at.timestamp())
    in_force = history.projected(
        catalog,
        {"period_anchor": anchor},
        [*changes, Recorded("", wanted, at_once=False, reason="")],
        wanted.at,
    )
    waits = in_force.change.terms != wanted.terms and in_force.until is not None
    return Preview(
        currency=catalog.currency,
        plan=plan,
        status=in_force.change.status,
        effective_at=int((in_force.until if waits and in_force.until else wanted.at).timestamp()),
        now=cost(catalog, lines, due),
        next_period=cost(
            catalog, opening_lines(catalog, after, following), int(following.start.timestamp())
        ),
    )


def _added(catalog: Catalog, before: History, after: History, period: Period) -> tuple[Line, ...]:
    """Return the lines of a period that a change brings; what it takes away comes negative."""
    had = Counter(closing_lines(catalog, before, period, {}))
    added: list[Line] = []
    for line in closing_lines(catalog, after, period, {}):
        if had[line] > 0:
            had[line] -= 1
        else:
            added.append(line)
    return (
        *added,
        *(
            line.model_copy(update={"amount": -line.amount, "quantity": -line.quantity})
            for line, count in had.items()
            for _ in range(count)
        ),
    )
