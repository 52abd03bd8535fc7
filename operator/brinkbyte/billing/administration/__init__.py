"""What the vendor's people see and set, over HTTP and from the command line.

In: requests with a credential of the vendor's own, or a shell with the role ``brinkbyte_admin``.
Out: keys and their rollout, clone alarms, feature flags, seats with their history, unpaid
invoices. What looks across customers needs that role; the API's own sees one customer at a time.
"""
