"""A customer whose license the vendor has switched offline use off for."""

from __future__ import annotations

from brinkbyte.license.confirmation import confirmed_until
from brinkbyte.license.modes import decide_mode
from services.billing.conftest import Billing
from services.billing.site import Site
from services.billing.test_tokens import held_of, license_of
from support.billing import CUSTOMER

HALF = 1800


async def test_each_refresh_signs_the_license_anew_and_nothing_else(
    acme: Site, billing: Billing
) -> None:
    held = await held_of(acme, billing)
    billing.query(
        "UPDATE billing_customers SET flags = '{\"offline_mode\": false}' WHERE tenant_id = %s",
        CUSTOMER,
    )
    switched = await license_of(acme, billing, **held)
    assert switched.flags.offline_mode is False
    held = await held_of(acme, billing, **held)
    billing.clock.advance(seconds=HALF - 60)
    assert (await acme.tokens(**held)).status_code == 304
    billing.clock.advance(seconds=120)
    answer = await acme.tokens(**held)
    assert [answer.json()[kind] for kind in ("seats", "revocations", "keySet")] == [None] * 3
    confirmed = await license_of(acme, billing, **held)
    assert confirmed.iat > switched.iat
    assert confirmed.license_sequence > switched.license_sequence
    # Asked at every refresh, it has more than an hour whenever the line dies.
    dies = confirmed.iat + HALF + confirmed.refresh_after // 10
    assert confirmed_until(confirmed) - dies > 3600
    assert decide_mode(confirmed, now=dies + 3600).full
    assert not decide_mode(confirmed, now=dies + 3 * 3600).full


async def test_with_offline_use_asking_again_writes_nothing(acme: Site, billing: Billing) -> None:
    held = await held_of(acme, billing)
    billing.clock.advance(hours=5)
    assert (await acme.tokens(**held)).status_code == 304
