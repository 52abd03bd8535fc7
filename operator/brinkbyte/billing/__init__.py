"""The global billing API: who has bought what, licenses that prove it, the ledger of what was used.

In: requests of operators, instances and the vendor over HTTP; what the vendor's administration
asks on the command line. Out: signed licenses, seats and receipts; ledger and quotas. The private
signing keys live only here.

One folder a domain (``customers subscriptions instances devices licenses usage quotas``), in each
``endpoints`` (HTTP only), ``service`` (rules), ``repository`` (all the SQL) and ``schemas``.
May import: the domain (``catalog license metering resources``) and ``kit``.
"""
