"""What every room needs and none is about: errors, ids, canonical JSON, settings, logging, pools.

In: nothing of ours. Out: small, typed building blocks. May import: nothing of ``brinkbyte``.
"""
