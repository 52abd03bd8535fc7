"""What the vendor's own services import: guards, entitlement enforcement, usage tracking.

Such services run beside the instance, on its database. In: a request or a call to be guarded. Out:
leave to go on, or a refusal with its reason; metering events in the outbox. May import:
``brinkbyte.store``, ``brinkbyte.client``, the domain, ``brinkbyte.kit``.
"""
