"""The global billing API: who has bought what, licenses that prove it, the ledger of what was used.

In: requests of operators, instances, customers and the vendor over HTTP; deliveries of the payment
provider; what the vendor's administration asks on the command line. Out: signed licenses, seats and
receipts; invoices and what the provider shall collect; what people are told. The private signing
keys live only here.

One folder a domain, in each ``endpoints`` (HTTP only), ``service`` (rules), ``repository`` (all the
SQL) and ``schemas``:

- who: ``customers``, ``users`` (people), ``api_keys`` (programs), ``instances``, ``clones``
- what they hold: ``subscriptions``, ``licenses``, ``devices``, ``rollout`` of signing keys
- what they use: ``usage`` (the ledger), ``quotas``
- what they pay: ``invoices`` (rated by ``brinkbyte.rating``), ``providers``, ``webhooks``
- what they hear: ``notifications``
- what the vendor sees: ``administration``

Two programs stand on them: the server (``app``, its ``routers``, around it ``shield``,
``rate_limits``, ``auth``, ``idempotency``) and the ``worker`` with its ``jobs``.
May import: ``rating``, the domain (``catalog license metering resources``) and ``kit``.
"""
