"""Trial seats: two, 90 days from their first use, whichever camera uses them."""

from __future__ import annotations

import pytest

from brinkbyte.license.claims import CameraClaims
from brinkbyte.license.tokens import verify
from services.billing.answers import enrolled, seats_of, statuses, terms
from services.billing.conftest import Billing
from services.billing.site import camera, device


async def test_trial_seats_are_two_and_end_after_90_days(billing: Billing) -> None:
    site = await enrolled(billing, terms(trial_seat=2, device__basic=1))
    cameras = [camera(n, mode="trial") for n in (1, 2, 3)]
    answer = await site.inventory([device(1)], cameras)
    assert statuses(answer) == [
        ("issued", "Issued"),
        ("issued", "Issued"),
        ("refused", "QuotaExceeded"),
    ]
    assert answer["cameras"][2]["sku"] == "vision.trial_seat"
    seat = seats_of(answer, billing).seats["cam-1"]
    assert seat.until == pytest.approx(billing.clock.now + 90 * 86_400, abs=5)
    claims = verify(
        answer["cameras"][0]["token"], CameraClaims, billing.keys, now=billing.clock.now
    )
    assert claims.grace_seconds == 0
    billing.clock.advance(days=80)
    late = await site.inventory([device(1)], cameras[:2])
    claims = verify(late["cameras"][0]["token"], CameraClaims, billing.keys, now=billing.clock.now)
    assert claims.exp == seat.until
    await site.rotate()
    billing.clock.advance(days=11)
    ended = await site.inventory([device(1)], cameras[:2])
    assert statuses(ended) == [("refused", "TrialEnded")] * 2
    # Another camera does not begin the trial anew.
    fresh = await site.inventory([device(1)], [camera(9, mode="trial")])
    assert statuses(fresh) == [("refused", "TrialEnded")]


async def test_trial_time_runs_on_whichever_camera_uses_it(billing: Billing) -> None:
    site = await enrolled(billing, terms(trial_seat=1, device__basic=1))
    first = await site.inventory([device(1)], [camera(1, mode="trial")])
    until = seats_of(first, billing).seats["cam-1"].until
    await site.inventory([device(1)], [])
    billing.clock.advance(days=30)
    second = await site.inventory([device(1)], [camera(2, mode="trial")])
    assert seats_of(second, billing).seats["cam-2"].until == until


async def test_trial_camera_becomes_a_bought_one(billing: Billing) -> None:
    both = terms(trial_seat=1, base_seat=1, device__basic=1)
    site = await enrolled(billing, both)
    first = await site.inventory([device(1)], [camera(1, mode="trial")])
    second = await site.inventory([device(1)], [camera(1, mode="base")])
    assert second["cameras"][0]["seat"] == first["cameras"][0]["seat"]
    assert seats_of(second, billing).seats["cam-1"].until is None
    # Also after the trial has ended.
    await site.inventory([device(1)], [camera(1, mode="trial")])
    billing.clock.advance(days=60)
    await site.rotate()
    billing.clock.advance(days=31)
    third = await site.inventory([device(1)], [camera(1, mode="base")])
    assert statuses(third) == [("issued", "Issued")]
