"""What a subscription costs: lines of invoices from history and usage. Pure.

In: the price list (``brinkbyte.catalog``), a subscription's whole :class:`History`, and what was
used in a period (:class:`MeterUsage` by meter). Out: :class:`Line`, exact, each rounded once. The
same input gives the same lines in any year: no clock, no database, no network. How the rules fit
together is told in ``docs/invoices.md``.

May import: ``brinkbyte.catalog``, ``brinkbyte.kit``, pydantic and the standard library.
"""

from brinkbyte.rating.force import effective
from brinkbyte.rating.invoice import adjustment_lines, closing_lines, opening_lines, total
from brinkbyte.rating.model import (
    Agreement,
    Change,
    History,
    Line,
    LineKind,
    MeterUsage,
    Period,
    Promotion,
    Status,
    Usage,
)
from brinkbyte.rating.periods import period_at, periods_until
from brinkbyte.rating.promotions import annual_percent, redeem

__all__ = [
    "Agreement",
    "Change",
    "History",
    "Line",
    "LineKind",
    "MeterUsage",
    "Period",
    "Promotion",
    "Status",
    "Usage",
    "adjustment_lines",
    "annual_percent",
    "closing_lines",
    "effective",
    "opening_lines",
    "period_at",
    "periods_until",
    "redeem",
    "total",
]
