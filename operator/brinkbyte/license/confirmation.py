"""How long a license holds that the vendor has switched offline use off for.

It is confirmed by being signed anew, which the billing API does whenever it is asked: nothing that
the customer's side could keep, answer or forge would be as good. One refresh may be missed, and
then an hour goes on as if nothing had happened.
"""

from __future__ import annotations

from typing import Final

from brinkbyte.license.claims import LicenseClaims
from brinkbyte.license.tokens import LEEWAY_SECONDS

UNCONFIRMED_SECONDS: Final = 3600
"""A line that is down for no longer than this changes nothing."""


def confirmed_until(claims: LicenseClaims) -> int:
    """Return the Unix seconds until which a license without offline use holds."""
    return claims.iat + claims.refresh_after + UNCONFIRMED_SECONDS + LEEWAY_SECONDS
