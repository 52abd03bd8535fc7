"""Which devices count, tier by tier: nobody loses a place to somebody else's change."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brinkbyte.billing.licenses.holdings import Allocation, Bought, Device
from brinkbyte.billing.licenses.registration import register_devices
from unit.billing.test_allocation import NOW, bought, device

pytestmark = pytest.mark.unit


def limits(basic: int, managed: int) -> Bought:
    return bought(tier_limits={"basic": basic, "managed": managed})


def again(before: Allocation, *devices: Device) -> list[Device]:
    """The declared devices with what is stored of them."""
    return [
        replace(
            d,
            registered_at=before.devices[d.name].registered_at,
            registered_tier=before.devices[d.name].registered_tier,
        )
        if d.name in before.devices
        else d
        for d in devices
    ]


def registered(result: Allocation) -> dict[str, str | None]:
    return {d.name: d.registered_tier for d in result.devices.values() if d.registered_at}


def test_change_of_tier_evicts_nobody() -> None:
    before = register_devices([device(0), device(1, tier="managed")], limits(1, 1), now=NOW)
    # The longest-registered one wants the other's place.
    wanted = again(before, device(0, tier="managed"), device(1, tier="managed"))
    after = register_devices(wanted, limits(1, 1), now=NOW + 9)
    assert registered(after) == {"d0": "basic", "d1": "managed"}
    assert after.device_decisions["d0"].reason == "QuotaExceeded"
    assert "stays registered as basic" in after.device_decisions["d0"].message
    assert after.device_decisions["d1"].accepted
    grown = register_devices(again(after, *wanted), limits(1, 2), now=NOW + 20)
    assert registered(grown) == {"d0": "managed", "d1": "managed"}
    assert grown.devices["d0"].registered_at == NOW


def test_changes_come_before_new_ones() -> None:
    before = register_devices([device(5)], limits(1, 0), now=NOW)
    wanted = again(before, device(5, tier="managed"), device(1, tier="managed"))
    after = register_devices(wanted, limits(1, 1), now=NOW)
    assert registered(after) == {"d5": "managed"}


def test_who_loses_its_tier_gets_the_one_it_asks_for() -> None:
    before = register_devices([device(5)], limits(1, 0), now=NOW)
    wanted = again(before, device(5, tier="managed"), device(1, tier="managed"))
    after = register_devices(wanted, limits(0, 1), now=NOW + 9)
    assert registered(after) == {"d5": "managed"}
    assert after.devices["d5"].registered_at == NOW
    lost = register_devices(again(before, device(5)), limits(0, 1), now=NOW)
    assert registered(lost) == {}


def test_under_a_plan_tiers_are_not_counted() -> None:
    plan = bought(device_limit=1)
    before = register_devices([device(0)], plan, now=NOW)
    after = register_devices(again(before, device(0, tier="managed")), plan, now=NOW)
    assert registered(after) == {"d0": "managed"}


def test_in_grace_no_tier_changes() -> None:
    before = register_devices([device(0)], limits(1, 1), now=NOW)
    grace = replace(limits(1, 1), active=False, kept=True)
    after = register_devices(again(before, device(0, tier="managed"), device(1)), grace, now=NOW)
    assert registered(after) == {"d0": "basic"}
    assert after.device_decisions["d0"].reason == "SubscriptionInactive"


devices = st.lists(
    st.builds(
        lambda n, hardware, tier: device(n, hardware_id=f"hw{hardware}", tier=tier),
        st.integers(0, 5),
        st.integers(0, 4),
        st.sampled_from(["basic", "managed"]),
    ),
    max_size=6,
    unique_by=lambda d: d.name,
)


@settings(max_examples=150, deadline=None)
@given(devices, devices, st.integers(0, 3), st.integers(0, 3))
def test_never_more_than_bought_and_holders_stay(
    first: list[Device], second: list[Device], basic: int, managed: int
) -> None:
    what = limits(basic, managed)
    before = register_devices(first, what, now=NOW)
    kept = {d.name: d for d in first}
    wanted = [d for d in second if d.name not in kept or d.hardware_id == kept[d.name].hardware_id]
    after = register_devices(again(before, *wanted), what, now=NOW + 1)
    counted = Counter(registered(after).values())
    assert counted["basic"] <= basic
    assert counted["managed"] <= managed
    assert set(after.device_decisions) == {d.name for d in wanted}
    stay = registered(before).keys() & {d.name for d in wanted}
    assert stay <= registered(after).keys()
    settled = register_devices(again(after, *wanted), what, now=NOW + 2)
    # Who waited may lose a conflict with who got in: that is settled one call later.
    assert registered(settled) == registered(after)
    later = register_devices(again(settled, *wanted), what, now=NOW + 3)
    assert later.devices == settled.devices
