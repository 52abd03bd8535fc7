"""The usage reporter: one run seals what waits, sends it, and marks it on a verified receipt.

In: the outbox, the identity and license directories, the billing API. Out: batches under receipts,
the state of metering. May import: ``store``, ``client``, the domain, ``kit``.
"""
