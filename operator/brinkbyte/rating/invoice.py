"""The lines of invoices: of a period that begins, of one that closed, of one closed long ago."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal

from brinkbyte.catalog import Catalog
from brinkbyte.rating.model import History, Line, Period, Usage


def opening_lines(catalog: Catalog, history: History, period: Period) -> tuple[Line, ...]:
    """Return what is paid ahead for a period that begins.

    - ``prepaid``: plan fees and quantities as they are at the period's begin (in the first
      period: as the first change has them, by days left). With annual payment twelve months in
      the first period of each paid year, and nothing in the other eleven.
    - ``yearly``: items whose anniversary falls in this period, for the year from it.
    - ``discount``: off the lines above: first the annual percent, then each promotion in the
      agreement's order; a line each, with the ``line`` of the charge it lowers.

    Nothing opens while trialing, while suspended, and from the subscription's end on. Only
    changes up to the period's begin count, so the lines never change later. May be empty.

    Args:
        catalog: the price list.
        history: the subscription's, at least up to the period's begin.
        period: one of the subscription's (``period_at``).

    Raises:
        CatalogError: the terms cannot be bought, for example an empty price ("contact sales")
            for which the customer has no value of their own; names what is missing.
    """
    raise NotImplementedError


def closing_lines(
    catalog: Catalog,
    history: History,
    period: Period,
    usage: Usage,
    *,
    paid_once: Collection[str] = (),
) -> tuple[Line, ...]:
    """Return what a closed period costs beyond what was paid ahead.

    - ``rise``: each day's rise of a quantity above what is already paid, by UTC days left, that
      day included (with annual payment: days left in the paid year).
    - ``plan_change``: the fee difference of a higher plan, likewise. A paid plan after a trial or
      a pause counts as risen from nothing.
    - ``yearly``: the first year of yearly items bought in the period; ``once``: one-time items.
    - ``overage``: usage beyond the allowance, linear. The allowance is the period's highest. A
      period that was trial to its end has none.
    - ``pass_through``: the costs that events carry, always.
    - ``discount``: as at the opening.

    Only changes before the period's end count. Caps make no charges. May be empty.

    Args:
        catalog: the price list.
        history: the subscription's, at least up to the period's end.
        period: one of the subscription's (``period_at``).
        usage: of the whole period, by meter; a meter that is absent was not used.
        paid_once: line ids of one-time charges that the customer has paid before in another
            subscription; they are not charged again.

    Raises:
        CatalogError: as ``opening_lines``; an unknown meter, negative or impossible usage.
    """
    raise NotImplementedError


def adjustment_lines(
    catalog: Catalog,
    history: History,
    period: Period,
    usage: Usage,
    invoiced: Sequence[Line],
) -> tuple[Line, ...]:
    """Return what late events change in a closed period: rated anew, less what was invoiced.

    Late events change usage alone, so lines of meters are compared (net of their discounts), by
    ``line``; no difference leaves no line. An amount below zero is a credit.

    Args:
        catalog: the price list **that the period's invoice was rated with**.
        history: the subscription's.
        period: the closed period.
        usage: of the whole period, late events included.
        invoiced: lines of the invoice that closed the period, and of those since that may carry
            adjustments of it. Lines of other periods and of other charges are ignored, so whole
            invoices may be given.

    Returns:
        ``adjustment`` lines whose ``period`` is the one adjusted; ``quantity`` is the difference
        of the units charged.

    Raises:
        CatalogError: as ``closing_lines``.
    """
    raise NotImplementedError


def total(catalog: Catalog, lines: Sequence[Line]) -> Decimal:
    """Return the exact sum of the lines in the currency's main unit; 0 of none."""
    raise NotImplementedError
