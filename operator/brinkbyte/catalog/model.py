"""The catalog's types: what the price list file may say.

Every model is immutable and refuses unknown fields. References between sections are checked by
`loader.py`, so a `Catalog` that `load_catalog` returned is consistent.
"""

from collections.abc import Iterator
from datetime import date
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from brinkbyte.catalog.errors import CatalogError
from brinkbyte.catalog.rules import Rules
from brinkbyte.catalog.values import (
    Count,
    Frozen,
    FrozenMap,
    Limit,
    Money,
    Name,
    Percent,
    Positive,
    Sku,
)

PromotionCode = Annotated[
    str, StringConstraints(pattern=r"^[A-Z0-9][A-Z0-9_-]*$", min_length=3, max_length=64)
]


class Charge(Frozen):
    """A fixed price; `amount` null is "contact sales"."""

    every: Literal["month", "year", "once"]
    amount: Money | None


class Overage(Frozen):
    """The price of `per` units beyond the allowance, linear (no block rounding)."""

    amount: Money
    per: Positive
    requires: Sku | None = None
    """The SKU that must be bought before overage is sold; until then the cap holds."""


class Pool(Frozen):
    """How a tenant-wide allowance that SKUs fill is enforced."""

    cap: Literal["soft", "hard"]
    overage: Overage | None = None


class PlanAllowance(Frozen):
    """What a plan includes of one meter per month (a gauge: at any time)."""

    included: Limit
    cap: Literal["soft", "hard"] | None = None
    overage: Overage | None = None


class PlanFeatures(Frozen):
    """Feature flags of a plan, under the names of the license claims; null is empty."""

    max_devices: Limit = Field(alias="maxDevices")
    data_retention_days: Limit = Field(alias="dataRetentionDays")
    can_export_data: bool | None = Field(alias="canExportData")
    has_advanced_alerts: bool | None = Field(alias="hasAdvancedAlerts")
    has_api_access: bool | None = Field(alias="hasApiAccess")
    has_mqtt_access: bool | None = Field(alias="hasMqttAccess")
    has_custom_branding: bool | None = Field(alias="hasCustomBranding")


class PlanLimits(Frozen):
    """Account limits of a plan, under the names of the license claims; null is empty."""

    max_users: Limit = Field(alias="maxUsers")
    max_alert_rules: Limit = Field(alias="maxAlertRules")
    max_dashboards: Limit = Field(alias="maxDashboards")


FEATURE_LIMITS = ("maxDevices", "dataRetentionDays")
FEATURE_FLAGS = (
    "canExportData",
    "hasAdvancedAlerts",
    "hasApiAccess",
    "hasMqttAccess",
    "hasCustomBranding",
)
ACCOUNT_LIMITS = ("maxUsers", "maxAlertRules", "maxDashboards")


class Plan(Frozen):
    """One plan of a family; a higher `rank` is a higher plan."""

    title: str
    rank: Count
    offering: Literal["sold", "trial", "fallback"]
    """`sold` for money, `trial` for a time without charge, `fallback` without any license."""
    plan_claim: Name
    trial_days: Positive | None = None
    charges: tuple[Charge, ...] = ()
    features: PlanFeatures | None = None
    limits: PlanLimits | None = None
    allowances: FrozenMap[Sku, PlanAllowance] = Field(default_factory=dict)


class Family(Frozen):
    """A product line: either plans, or SKUs bought in quantities that fill pools."""

    title: str
    sold_per: Name
    plan_claim: Name | None = None
    plans: FrozenMap[Name, Plan] = Field(default_factory=dict)
    pools: FrozenMap[Sku, Pool] = Field(default_factory=dict)


class SkuSpec(Frozen):
    """Something bought in a quantity."""

    family: Name
    title: str
    role: Literal["base_seat", "trial_seat", "edge_device", "pack", "analyst_seat"]
    unit: Name
    basis: Literal["prepaid", "trial", "usage"]
    """`prepaid` quantity, free `trial`, or no fixed price: what is used is charged."""
    tier: Name | None = None
    trial_days: Positive | None = None
    at_most: Positive | None = None
    charges: tuple[Charge, ...] = ()
    includes: FrozenMap[Sku, Count] = Field(default_factory=dict)
    """Monthly allowance of each meter per unit; pooled over the tenant."""
    bundles: FrozenMap[Sku, Positive] = Field(default_factory=dict)
    """Units of other SKUs that come with one unit at no extra price."""
    requires: Sku | None = None


class Adds(Frozen):
    """Names that a license or pack unlocks."""

    models: tuple[Name, ...] = ()
    analytics: tuple[Name, ...] = ()
    outputs: tuple[Name, ...] = ()
    llm: tuple[Name, ...] = ()


class PackPart(Frozen):
    """A part of a pack that is bought on its own; its name is `pack.part`."""

    sku: Sku
    adds: Adds = Adds()


class Pack(Frozen):
    """A growth pack: per camera, per tenant, or bought by the part (then per tenant)."""

    title: str
    per: Literal["camera", "tenant", "part"]
    sku: Sku | None = None
    adds: Adds = Adds()
    parts: FrozenMap[Name, PackPart] = Field(default_factory=dict)


class ModelSpec(Frozen):
    """A detection model and the sub-classes that it tells apart."""

    classes: tuple[Name, ...] = ()


class Meter(Frozen):
    """What is counted. `billing`: has a price, only an allowance, or neither."""

    title: str
    family: Name
    measures: Name
    unit: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]+$")]
    kind: Literal["counter", "gauge"]
    billing: Literal["priced", "limited", "informing"]
    pass_through: Sku | None = None
    """The SKU under which each event's own cost is passed on; null for every other meter."""


class Promotion(Frozen):
    """What a promotion code offers to whoever redeems it; one of `percent` and `amount`."""

    title: str
    percent: Percent | None = None
    """Off each charge that it applies to."""
    amount: Money | None = None
    """Off each billing period's sum of what it applies to, never below zero."""
    lines: tuple[str, ...] = ()
    """Line ids or meters that it applies to; empty: every prepaid charge."""
    plans: tuple[Sku, ...] = ()
    """SKUs of the plans it is for, one of which must be held; empty: whatever is held."""
    months: Positive | None = None
    """How long it counts from its redemption; null: for ever."""
    first_day: date
    """UTC day from which it can be redeemed."""
    last_day: date | None = None
    """UTC day until which it can be redeemed, inclusive; null: until it is taken out."""


class PackRef(Frozen):
    """A pack or part under the one name that terms, licenses and grants use."""

    name: str
    per: Literal["camera", "tenant"]
    sku: Sku
    adds: Adds


def plan_sku(family: str, plan: str) -> str:
    """Return the SKU of a plan, for example `fleet.plan.starter`."""
    return f"{family}.plan.{plan}"


def charge_line(sku: str, charge: Charge) -> str:
    """Return the stable id of a charge: the SKU, and how often unless monthly."""
    return sku if charge.every == "month" else f"{sku}.{charge.every}"


def _unknown(kind: str, name: str, known: list[str]) -> CatalogError:
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
    return CatalogError(f"unknown {kind} {name!r}; {hint}")


class Catalog(Frozen):
    """One version of the price list."""

    version: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}$")]
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
    rules: Rules
    families: FrozenMap[Name, Family]
    skus: FrozenMap[Sku, SkuSpec]
    base: Adds
    packs: FrozenMap[Name, Pack]
    models: FrozenMap[Name, ModelSpec]
    analytics: tuple[Name, ...]
    outputs: tuple[Name, ...]
    llm: tuple[Name, ...]
    meters: FrozenMap[Sku, Meter]
    promotions: FrozenMap[PromotionCode, Promotion] = Field(default_factory=dict)

    def family(self, name: str) -> Family:
        """Return a family by name; CatalogError if unknown."""
        if name not in self.families:
            raise _unknown("family", name, list(self.families))
        return self.families[name]

    def plan(self, family: str, name: str) -> Plan:
        """Return a plan of a family; CatalogError if unknown."""
        plans = self.family(family).plans
        if not plans:
            msg = f"family {family!r} has no plans; buy quantities of its SKUs instead"
            raise CatalogError(msg)
        if name not in plans:
            raise _unknown(f"plan of family {family!r}:", name, list(plans))
        return plans[name]

    def sku(self, sku: str) -> SkuSpec:
        """Return a SKU that is bought in quantities; CatalogError if unknown."""
        if sku not in self.skus:
            raise _unknown("SKU", sku, list(self.skus))
        return self.skus[sku]

    def meter(self, name: str) -> Meter:
        """Return a meter by name; CatalogError if unknown."""
        if name not in self.meters:
            raise _unknown("meter", name, list(self.meters))
        return self.meters[name]

    def meter_for(self, family: str, measures: str) -> str:
        """Return the name of a family's meter for what a tracker counts, such as `api_calls`.

        Raises:
            CatalogError: unknown family, or the family does not count this.
        """
        self.family(family)
        known = {m.measures: name for name, m in self.meters.items() if m.family == family}
        if measures not in known:
            raise _unknown(f"measure of family {family!r}:", measures, list(known))
        return known[measures]

    def pack_refs(self) -> Iterator[PackRef]:
        """Yield every pack and pack part under the name that terms and licenses use."""
        for name, pack in self.packs.items():
            if pack.sku is not None and pack.per != "part":
                yield PackRef(name=name, per=pack.per, sku=pack.sku, adds=pack.adds)
            for part_name, part in pack.parts.items():
                yield PackRef(
                    name=f"{name}.{part_name}", per="tenant", sku=part.sku, adds=part.adds
                )

    def pack(self, name: str) -> PackRef:
        """Return a pack (`retail`) or pack part (`integration.sms`); CatalogError if unknown."""
        refs = {ref.name: ref for ref in self.pack_refs()}
        if name in refs:
            return refs[name]
        if name in self.packs:
            parts = ", ".join(f"{name}.{part}" for part in self.packs[name].parts)
            msg = f"pack {name!r} is bought by the part; name one of: {parts}"
            raise CatalogError(msg)
        raise _unknown("pack", name, list(refs))

    def promotion(self, code: str) -> Promotion:
        """Return what a code offers; CatalogError if unknown. No code is given away in it."""
        if code not in self.promotions:
            msg = f"unknown promotion code {code!r}; check its spelling"
            raise CatalogError(msg)
        return self.promotions[code]

    def charge_lines(self) -> Iterator[str]:
        """Yield the line id of every fixed charge."""
        for name, family in self.families.items():
            for plan_name, plan in family.plans.items():
                yield from (charge_line(plan_sku(name, plan_name), c) for c in plan.charges)
        for sku, spec in self.skus.items():
            yield from (charge_line(sku, charge) for charge in spec.charges)

    def fallback(self) -> Plan:
        """Return the plan that holds without any license."""
        return next(
            plan
            for family in self.families.values()
            for plan in family.plans.values()
            if plan.offering == "fallback"
        )
