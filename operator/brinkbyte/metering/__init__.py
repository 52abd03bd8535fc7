"""Metering: events, sealed batches and receipts, exact to the byte.

In: what happened, as events. Out: canonical bytes, signed and chained batches, verified receipts.
Pure: no I/O, no clock of its own. May import: ``brinkbyte.kit``, and ``brinkbyte.license`` for keys
and receipts' claims.
"""
