"""The custom resources ``Tenant``, ``EdgeDevice``, ``CameraLicense`` and the names around them.

In: nothing. Out: pydantic models of the three kinds, from which the CRDs are generated; names of
children, Secrets, keys and mount paths that operator, instance and reporter agree on; what an
instance tells its operator. Pure. May import: ``brinkbyte.kit``, ``brinkbyte.license``.
"""
