"""Which devices count: a pure function from what is declared, registered and bought.

Who is registered stays so first, longest-registered first; then registered devices change their
tier, then new ones are taken in, in the order the resources were created.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from brinkbyte.billing.licenses.holdings import (
    REGISTERED,
    Allocation,
    Bought,
    Decision,
    Device,
    full,
)


def register_devices(devices: Iterable[Device], bought: Bought, *, now: int) -> Allocation:
    """Decide which devices count, and in which tier."""
    return _Devices(bought, now).run(list(devices))


class _Devices:
    """One instance a run."""

    def __init__(self, bought: Bought, now: int) -> None:
        self.bought = bought
        self.now = now
        self.result = Allocation()
        self.taken: dict[str, str] = {}
        self.per_tier: Counter[str] = Counter()

    def run(self, devices: list[Device]) -> Allocation:
        """Decide in three rounds: keep, change, claim."""
        holders = sorted(
            (device for device in devices if device.registered_at is not None),
            key=lambda d: (d.registered_at, d.created_at, d.uid, d.name),
        )
        for device in holders:
            self._keep(device)
        for device in holders:
            if device.name not in self.result.devices or self._wants_change(device):
                self._change(device)
        for device in sorted(devices, key=lambda d: (d.created_at, d.uid, d.name)):
            if device.name not in self.result.devices:
                self._claim(device)
        return self.result

    def _keep(self, device: Device) -> None:
        """Keep a holder within what is bought; who loses its tier may still get the one wanted."""
        tier = self._tier(device)
        refused = self._conflict(device) or self._full(tier)
        if refused is None:
            self._accept(device, tier)
        elif device.hardware_id in self.taken or tier == device.tier:
            self._refuse(device, refused)

    def _change(self, device: Device) -> None:
        """Give a holder the tier it asks for, or leave it as it is."""
        refused = self._refuse_more() or self._full(device.tier)
        kept = self.result.devices.get(device.name)
        if kept is None:
            refused = self._conflict(device) or refused
            if refused is None:
                self._accept(device, device.tier)
            else:
                self._refuse(device, refused)
            return
        tier = self._tier(device)
        if refused is None:
            self.per_tier[tier] -= 1
            self._accept(device, device.tier)
            return
        message = f"{refused.message}; until then the device stays registered as {tier}"
        self.result.device_decisions[device.name] = replace(refused, message=message)
        self.result.devices[device.name] = replace(kept, reason=refused.reason)

    def _claim(self, device: Device) -> None:
        refused = self._conflict(device) or self._refuse_more() or self._full(device.tier)
        if refused is None:
            self._accept(device, device.tier)
        else:
            self._refuse(device, refused)

    def _tier(self, device: Device) -> str:
        """Return the tier that a holder counts in; under a plan tiers are not counted."""
        if self.bought.tier_limits is None:
            return device.tier
        return device.registered_tier or device.tier

    def _wants_change(self, device: Device) -> bool:
        kept = self.result.devices[device.name]
        return kept.registered_at is not None and kept.registered_tier != device.tier

    def _conflict(self, device: Device) -> Decision | None:
        other = self.taken.get(device.hardware_id)
        if other is None:
            return None
        return Decision(
            False,
            "DeviceConflict",
            f"hardware id {device.hardware_id} is declared by {other} already; "
            "delete one of the two",
        )

    def _refuse_more(self) -> Decision | None:
        return Decision(False, *self.bought.refusal) if self.bought.in_grace else None

    def _full(self, tier: str) -> Decision | None:
        limits, limit = self.bought.tier_limits, self.bought.device_limit
        if limits is not None:
            used, most = self.per_tier[tier], limits.get(tier, 0)
            sku = self.bought.sku_of.get(tier)
            return full(f"{tier} devices", used, most, sku) if used >= most else None
        if limit is not None and len(self.taken) >= limit:
            return full("devices", len(self.taken), limit, None)
        return None

    def _accept(self, device: Device, tier: str) -> None:
        self.taken[device.hardware_id] = device.name
        self.per_tier[tier] += 1
        since = self.now if device.registered_at is None else device.registered_at
        self.result.device_decisions[device.name] = REGISTERED
        self.result.devices[device.name] = replace(
            device, registered_at=since, registered_tier=tier, reason=REGISTERED.reason
        )

    def _refuse(self, device: Device, decision: Decision) -> None:
        self.result.device_decisions[device.name] = decision
        self.result.devices[device.name] = replace(
            device, registered_at=None, registered_tier=None, reason=decision.reason
        )
