"""From what a customer bought to what may be held, and what a seat occupies. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict

from brinkbyte.billing.licenses.holdings import Bought, HeldSeat
from brinkbyte.billing.licenses.issue import Customer
from brinkbyte.billing.subscriptions.standing import Standing
from brinkbyte.catalog import Catalog, Entitlements, unlicensed_entitlements
from brinkbyte.kit.canonical import canonical_json
from brinkbyte.license.claims import Revocation, SubscriptionStatus, TokenKind


def bought_of(
    catalog: Catalog, customer: Customer, revocations: Iterable[Revocation], *, now: int
) -> Bought:
    """Return what may be held."""
    entitled, standing = customer.entitlements, customer.standing
    entries = list(revocations)
    license_revoked = any(entry.kind is TokenKind.LICENSE for entry in entries)
    kept = standing.keeps(now) and not license_revoked
    refusal = (
        ("SubscriptionInactive", "the vendor revoked the license; contact support")
        if license_revoked
        else standing.refusal(now)
    )
    sku_of = {"base": "", "trial": ""}
    for name, sku in catalog.skus.items():
        if sku.role == "base_seat":
            sku_of["base"] = name
        elif sku.role == "trial_seat":
            sku_of["trial"] = name
        elif sku.role == "edge_device" and sku.tier is not None:
            sku_of[sku.tier] = name
    packs: dict[str, int] = {}
    not_bought = set()
    for ref in catalog.pack_refs():
        sku_of[ref.name] = ref.sku
        if ref.per == "camera":
            packs[ref.name] = entitled.pack_quantities.get(ref.name, 0)
        elif ref.name not in entitled.tenant_packs:
            not_bought.add(ref.name)
    has_device_plan = any(
        catalog.plan(family, plan).features is not None
        for family, plan in standing.terms.plans.items()
    )
    limit = device_limit(catalog, standing, entitled, kept=kept)
    one_by_one = kept and not has_device_plan and bool(standing.terms.quantities)
    return Bought(
        active=standing.active(now) and not license_revoked,
        kept=kept,
        refusal=refusal,
        device_limit=limit,
        tier_limits=dict(entitled.devices_bought) if one_by_one else None,
        base_seats=entitled.base_seats,
        trial_seats=entitled.trial_seats,
        trial_days=entitled.trial_seat_days,
        packs=packs,
        tenant_packs=frozenset(entitled.tenant_packs),
        other_tenant_packs=frozenset(not_bought),
        sku_of=sku_of,
        revoked=frozenset(e.subject for e in entries if e.kind is TokenKind.CAMERA),
    )


def device_limit(
    catalog: Catalog, standing: Standing, entitled: Entitlements, *, kept: bool
) -> int | None:
    """Return how many devices may register; past grace as many as without a license."""
    if kept or standing.status is SubscriptionStatus.NONE:
        return entitled.device_limit
    return unlicensed_entitlements(catalog).device_limit


def basis_of(bought: Bought) -> bytes:
    """Return the hash of what may be held: seats decided for the same one need no new decision."""
    said = {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in asdict(bought).items()
    }
    return hashlib.sha256(canonical_json(said)).digest()


def skus_of(seat: HeldSeat, bought: Bought) -> dict[str, int]:
    """Return the units of each SKU that a seat occupies."""
    per_camera = [bought.sku_of[pack] for pack in seat.packs if pack in bought.packs]
    return dict.fromkeys([bought.sku_of[seat.mode.value], *per_camera], 1)
