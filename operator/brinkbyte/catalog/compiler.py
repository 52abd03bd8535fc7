"""Terms to entitlements: what a customer may use, before anything is signed or counted."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from brinkbyte.catalog.model import (
    Adds,
    Catalog,
    Family,
    Overage,
    Plan,
    PlanFeatures,
    PlanLimits,
    plan_sku,
)
from brinkbyte.catalog.terms import Terms, check_terms, flag_value, limit_value, money_override
from brinkbyte.catalog.values import Frozen, FrozenMap, Money

# Sets are dumped sorted so that equal entitlements make equal documents (and signatures).
Names = Annotated[frozenset[str], PlainSerializer(sorted, return_type=list[str])]


class Features(Frozen):
    """Feature flags of the license; dumped by alias they are its `features` claim."""

    max_devices: int | None = Field(alias="maxDevices")
    """Null means unlimited."""
    data_retention_days: int | None = Field(alias="dataRetentionDays")
    """Null means that the license sets none."""
    can_export_data: bool = Field(alias="canExportData")
    has_advanced_alerts: bool = Field(alias="hasAdvancedAlerts")
    has_api_access: bool = Field(alias="hasApiAccess")
    has_mqtt_access: bool = Field(alias="hasMqttAccess")
    has_custom_branding: bool = Field(alias="hasCustomBranding")


class Limits(Frozen):
    """Account limits of the license (its `limits` claim); null means not set."""

    max_users: int | None = Field(alias="maxUsers")
    max_alert_rules: int | None = Field(alias="maxAlertRules")
    max_dashboards: int | None = Field(alias="maxDashboards")


class Rate(Frozen):
    """`amount` of money for each `per` units."""

    amount: Money
    per: int


class Allowance(Frozen):
    """What is included of one meter, and what happens beyond it.

    Beyond `included` (null: unlimited) either `overage` is charged, or `cap` says how it ends:
    `soft` warns and refuses later (`rules.soft_cap`), `hard` refuses at once.
    """

    included: int | None
    cap: Literal["soft", "hard"] | None
    overage: Rate | None


class Entitlements(Frozen):
    """What a customer may use: the source of license claims, seats and quota rows."""

    catalog_version: str
    plan: str
    """Value of the license's `plan` claim."""
    plan_trial_days: int | None
    """Length of the plan's trial; null when the plan is not a trial."""
    features: Features
    limits: Limits
    base_seats: int
    trial_seats: int
    trial_seat_days: int | None
    """Length of a camera trial; null without trial seats."""
    pack_quantities: FrozenMap[str, int]
    """Cameras that may hold each per-camera pack; packs not bought are absent."""
    tenant_packs: Names
    """Packs and parts of packs (`integration.sms`) held by the whole tenant."""
    analyst_seats: int
    devices_bought: FrozenMap[str, int]
    """Edge devices bought by management tier."""
    device_limit: int | None
    """Devices that may be registered; null means unlimited."""
    allowances: FrozenMap[str, Allowance]
    """By meter; a meter that is absent is neither limited nor priced."""


class Grants(Frozen):
    """Names that may be used; `llm` are tenant-wide features of the language model."""

    models: Names
    analytics: Names
    outputs: Names
    llm: Names = frozenset()


def grants(catalog: Catalog, packs: Iterable[str], *, base: bool = True) -> Grants:
    """Return what a camera with these packs may use, with or without the base license.

    Tenant packs count for each camera of the tenant: pass them along. A name granted by several
    packs is one name.

    Raises:
        CatalogError: unknown pack, or a pack that is only bought by the part.
    """
    adds: list[Adds] = [catalog.pack(name).adds for name in packs]
    if base:
        adds.append(catalog.base)
    return Grants(
        models=frozenset(name for add in adds for name in add.models),
        analytics=frozenset(name for add in adds for name in add.analytics),
        outputs=frozenset(name for add in adds for name in add.outputs),
        llm=frozenset(name for add in adds for name in add.llm),
    )


def held_units(catalog: Catalog, terms: Terms) -> dict[str, int]:
    """Return the units held of each SKU: what was bought and what came bundled with it."""
    units = {sku: quantity for sku, quantity in terms.quantities.items() if quantity > 0}
    for sku, quantity in tuple(units.items()):
        for other, bundled in catalog.sku(sku).bundles.items():
            units[other] = units.get(other, 0) + bundled * quantity
    return units


def allowances(catalog: Catalog, terms: Terms) -> dict[str, Allowance]:
    """Return the allowance of every meter that the terms limit or price."""
    result: dict[str, Allowance] = {}
    for family, name in terms.plans.items():
        sku = plan_sku(family, name)
        for meter, listed in catalog.plan(family, name).allowances.items():
            key = f"{sku}.{catalog.meter(meter).measures}"
            result[meter] = Allowance(
                included=limit_value(terms, f"{key}.included", listed.included),
                cap=listed.cap,
                overage=_rate(terms, f"{key}.overage", listed.overage),
            )
    units = held_units(catalog, terms)
    families = {catalog.sku(sku).family for sku in units}
    for name, spec in catalog.families.items():
        if name in families:
            result.update(_pooled(catalog, terms, spec, units))
    return result


def _pooled(
    catalog: Catalog, terms: Terms, family: Family, units: Mapping[str, int]
) -> dict[str, Allowance]:
    result: dict[str, Allowance] = {}
    for meter, pool in family.pools.items():
        included = sum(
            catalog.sku(sku).includes.get(meter, 0) * count for sku, count in units.items()
        )
        overage = pool.overage
        if overage is not None and overage.requires is not None and overage.requires not in units:
            overage = None
        result[meter] = Allowance(
            included=included,
            cap=pool.cap if overage is None else None,
            overage=_rate(terms, f"{meter}.overage", overage),
        )
    return result


def _rate(terms: Terms, key: str, overage: Overage | None) -> Rate | None:
    if overage is None:
        return None
    own = money_override(terms, key)
    return Rate(amount=overage.amount if own is None else own, per=overage.per)


def compile_entitlements(catalog: Catalog, terms: Terms) -> Entitlements:
    """Return what the terms entitle to; terms without any plan or quantity are unlicensed.

    Raises:
        CatalogError: the terms cannot be bought (see `check_terms`).
    """
    check_terms(catalog, terms)
    units = held_units(catalog, terms)
    if not terms.plans and not units:
        return unlicensed_entitlements(catalog)

    by_role: dict[str, dict[str, int]] = {}
    for sku, count in units.items():
        by_role.setdefault(catalog.sku(sku).role, {})[sku] = count
    devices: dict[str, int] = {}
    for sku, count in by_role.get("edge_device", {}).items():
        tier = catalog.sku(sku).tier or ""
        devices[tier] = devices.get(tier, 0) + count
    trial_seats = by_role.get("trial_seat", {})
    features, limits = _features_and_limits(catalog, terms, units, sum(devices.values()))
    held_packs = [ref for ref in catalog.pack_refs() if ref.sku in units]
    return Entitlements(
        catalog_version=catalog.version,
        plan=_plan_claim(catalog, terms, units),
        plan_trial_days=next(
            (
                plan.trial_days
                for plan in (catalog.plan(f, p) for f, p in terms.plans.items())
                if plan.offering == "trial"
            ),
            None,
        ),
        features=features,
        limits=limits,
        base_seats=sum(by_role.get("base_seat", {}).values()),
        trial_seats=sum(trial_seats.values()),
        trial_seat_days=next((catalog.sku(sku).trial_days for sku in trial_seats), None),
        pack_quantities={ref.name: units[ref.sku] for ref in held_packs if ref.per == "camera"},
        tenant_packs=frozenset(ref.name for ref in held_packs if ref.per == "tenant"),
        analyst_seats=sum(by_role.get("analyst_seat", {}).values()),
        devices_bought=devices,
        device_limit=features.max_devices,
        allowances=allowances(catalog, terms),
    )


def unlicensed_entitlements(catalog: Catalog) -> Entitlements:
    """Return what holds without any license: the fallback plan and no seat."""
    plan = catalog.fallback()
    features, limits = _listed(plan)
    return Entitlements(
        catalog_version=catalog.version,
        plan=plan.plan_claim,
        plan_trial_days=None,
        features=features,
        limits=limits,
        base_seats=0,
        trial_seats=0,
        trial_seat_days=None,
        pack_quantities={},
        tenant_packs=frozenset(),
        analyst_seats=0,
        devices_bought={},
        device_limit=features.max_devices,
        allowances={},
    )


def _plan_claim(catalog: Catalog, terms: Terms, units: Mapping[str, int]) -> str:
    by_quantity = {catalog.sku(sku).family for sku in units}
    for name in catalog.rules.plan_claim_order:
        family = catalog.family(name)
        if name in terms.plans:
            return family.plans[terms.plans[name]].plan_claim
        if name in by_quantity and family.plan_claim is not None:
            return family.plan_claim
    return catalog.fallback().plan_claim


def _features_and_limits(
    catalog: Catalog, terms: Terms, units: Mapping[str, int], devices: int
) -> tuple[Features, Limits]:
    for family, name in terms.plans.items():
        plan = catalog.plan(family, name)
        if plan.features is not None:
            return _resolve(terms, plan_sku(family, name), plan.features, plan.limits)
    by_quantity = {catalog.sku(sku).family for sku in units}
    for name in catalog.families:
        if name in by_quantity:
            features, limits = _resolve(terms, name, None, None)
            return features.model_copy(update={"max_devices": devices}), limits
    # Neither devices nor cameras were bought, so for them nothing changed: as unlicensed.
    return _listed(catalog.fallback())


def _listed(plan: Plan) -> tuple[Features, Limits]:
    return _resolve(Terms(), "", plan.features, plan.limits)


def _resolve(
    terms: Terms, scope: str, features: PlanFeatures | None, limits: PlanLimits | None
) -> tuple[Features, Limits]:
    flags = features.model_dump(by_alias=True) if features is not None else {}
    account = limits.model_dump(by_alias=True) if limits is not None else {}

    def limit(key: str, listed: Mapping[str, int | str | None]) -> int | None:
        return limit_value(terms, f"{scope}.{key}", listed.get(key))

    def flag(key: str) -> bool:
        return flag_value(terms, f"{scope}.{key}", listed=flags.get(key))

    return (
        Features(
            max_devices=limit("maxDevices", flags),
            data_retention_days=limit("dataRetentionDays", flags),
            can_export_data=flag("canExportData"),
            has_advanced_alerts=flag("hasAdvancedAlerts"),
            has_api_access=flag("hasApiAccess"),
            has_mqtt_access=flag("hasMqttAccess"),
            has_custom_branding=flag("hasCustomBranding"),
        ),
        Limits(
            max_users=limit("maxUsers", account),
            max_alert_rules=limit("maxAlertRules", account),
            max_dashboards=limit("maxDashboards", account),
        ),
    )
