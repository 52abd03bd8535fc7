"""Licenses: who may do what, provable offline, forgeable by nobody but the vendor's signing keys.

In: signed documents (key sets, license, camera, seats and revocation tokens) and the time as an
argument. Out: verified claims, seat look-ups, modes, refusals with reasons. Pure: no I/O and no
clock of its own. May import: ``brinkbyte.kit``.

- ``claims``: what each signed document says.
- ``keys``: signing keys, public JWKs, the root-signed key set.
- ``tokens``: sign and verify, one ``typ`` and one key use per kind.
- ``seats``: the compressed seat list.
- ``clock``: offline age that a turned-back clock cannot shorten.
- ``modes``: active, trial, grace, expired, revoked, suspended, unlicensed: what each rests on and
  allows, and every move between them, as tables; ``docs`` writes them down for people.
- ``request``, ``bundle``: what a site without a line asks for, and the vendor's answer to it.
- ``wire``: requests and answers between operator, instance and billing API about licenses.
"""
