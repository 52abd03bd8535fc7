"""The vendor's switches, as a service beside the instance follows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from brinkbyte.guards import Guards
from brinkbyte.license.claims import TokenKind
from services.guards.conftest import FREE, SEATS, TOKENS
from support.instance_api import eventually
from support.instance_site import Site

pytestmark = pytest.mark.services
Query = Callable[..., list[Any]]


async def switch(site: Site, guards: Guards, sequence: int, **flags: bool) -> None:
    site.install(sequence=sequence, flags=flags, **FREE)
    await eventually(lambda: guards.license.snapshot.sequence(TokenKind.LICENSE) == sequence)


async def test_validation_off_lets_pass_counts_on_and_says_so(
    site: Site, guards: Guards, query: Query
) -> None:
    refused = await guards.enforcer.check_and_record(SEATS, 4)
    assert (refused.allowed, refused.reason) == (False, "QuotaExceeded")
    await switch(site, guards, 8, licenseValidation=False)
    passed = await guards.enforcer.check_and_record(SEATS, 4)
    assert (passed.allowed, passed.warning, passed.used, passed.limit) == (True, True, 4, 3)
    assert "switched validation off" in passed.message
    feature = guards.feature("hasCustomBranding")
    assert (feature.allowed, feature.warning, feature.reason) == (True, True, "FeatureNotLicensed")
    guards.feature("hasCustomBranding")
    assert guards.waived == {"hasCustomBranding": 2}
    assert len(query("SELECT 1 FROM usage_events")) == 1
    # On again: what is held counts, and no more fits.
    await switch(site, guards, 9)
    assert (await guards.enforcer.check_and_record(SEATS)).used == 4
    assert not (await guards.enforcer.check_and_record(SEATS)).allowed
    assert not guards.feature("hasCustomBranding").allowed


async def test_metering_off_writes_no_event_and_limits_hold(
    site: Site, guards: Guards, query: Query
) -> None:
    await switch(site, guards, 8, usageTracking=False)
    enforcer = guards.enforcer
    tokens = await enforcer.check_and_record(TOKENS, 9, key="once")
    assert (tokens.allowed, tokens.used, tokens.event_id) == (True, 9, None)
    assert (await enforcer.check_and_record(TOKENS, 9, key="once")).used == 9
    assert not (await enforcer.check_and_record(TOKENS, 4)).allowed
    seats = await enforcer.check_and_record(SEATS, 3)
    assert (seats.allowed, seats.event_id) == (True, None)
    assert not (await enforcer.check_and_record(SEATS)).allowed
    assert (await enforcer.release(SEATS)).event_id is None
    assert query("SELECT 1 FROM usage_events") == []
    await switch(site, guards, 9)
    assert (await enforcer.check_and_record(SEATS)).event_id is not None
    assert len(query("SELECT 1 FROM usage_events")) == 1
