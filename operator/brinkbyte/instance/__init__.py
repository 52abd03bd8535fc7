"""The customer-instance API (FastAPI): licenses, cameras, telemetry, inference.

In: signed license documents (from a directory, PostgreSQL, Redis or the billing API), HTTP calls
with a service, operator or device credential, the time. Out: HTTP answers; rows in the instance's
PostgreSQL, one metering event in the transaction of the work it measures; models loaded into
Triton. Knows nothing of Kubernetes. May import: ``brinkbyte.guards``, ``brinkbyte.store``,
``brinkbyte.client``, the domain, ``brinkbyte.kit``.

- ``endpoints``: HTTP only, one module per group.
- ``services``: the rules.
- ``licensing``: documents, their tiers and what they allow.
- ``triton``: the model repository, the model loader, inference.
- ``app``: puts it together; ``cli``: ``brinkbyte instance …``.
"""
