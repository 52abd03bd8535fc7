"""What a subscription costs: lines of invoices from history and usage. Pure.

In: the price list (``brinkbyte.catalog``), a subscription's whole :class:`History`, and what was
used in a period (:class:`MeterUsage` by meter). Out: :class:`Line`, exact, each rounded once. The
same input gives the same lines in any year: no clock, no database, no network.

May import: ``brinkbyte.catalog``, ``brinkbyte.kit``, pydantic and the standard library.
"""
