"""Reads a catalog file and refuses one whose parts do not fit together."""

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import yaml
from pydantic import ValidationError

from brinkbyte.catalog.errors import CatalogError
from brinkbyte.catalog.model import Adds, Catalog, Family, Plan, SkuSpec, plan_sku

_PREFIX, _SUFFIX = "catalog-", ".yaml"

Problem = tuple[str, str]


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, where YAML would silently keep the last."""


def _mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    repeated = [key for key, count in Counter(map(str, keys)).items() if count > 1]
    if repeated:
        raise yaml.constructor.ConstructorError(
            None, None, f"key {repeated[0]!r} is given twice; remove one", node.start_mark
        )
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _path(location: Iterable[int | str]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "(document)"


def parse_catalog(text: str, source: str = "catalog") -> Catalog:
    """Read and check one catalog document.

    Args:
        text: the YAML document.
        source: what to call the document in errors, usually its file name.

    Raises:
        CatalogError: lists every problem as `source: path: what to do`.
    """
    try:
        # The loader above is a SafeLoader.
        data = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506
    except yaml.YAMLError as error:
        msg = f"{source}: not readable YAML: {error}"
        raise CatalogError(msg) from error
    try:
        # JSON is the strict form of YAML that has lists for tuples and nothing implicit.
        catalog = Catalog.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise CatalogError(
            f"{source}: {_path(item['loc'])}: {item['msg']}" for item in error.errors()
        ) from error
    problems = [f"{source}: {path}: {what}" for path, what in _problems(catalog)]
    if problems:
        raise CatalogError(problems)
    return catalog


def catalog_versions() -> tuple[str, ...]:
    """Return the versions that this release carries, oldest first."""
    return tuple(sorted(_data_files()))


def _data_files() -> dict[str, Traversable]:
    folder = files("brinkbyte.catalog").joinpath("data")
    return {
        item.name.removeprefix(_PREFIX).removesuffix(_SUFFIX): item
        for item in folder.iterdir()
        if item.name.startswith(_PREFIX) and item.name.endswith(_SUFFIX)
    }


@cache
def _load(version: str) -> Catalog:
    item = _data_files()[version]
    catalog = parse_catalog(item.read_text(encoding="utf-8"), item.name)
    if catalog.version != version:
        msg = f"{item.name}: version: says {catalog.version!r}; make it {version!r}"
        raise CatalogError(msg)
    return catalog


def load_catalog(version: str | None = None) -> Catalog:
    """Return a version of the catalog, the newest when none is named.

    Raises:
        CatalogError: this release does not carry the version, or the file is inconsistent.
    """
    versions = catalog_versions()
    if version is None:
        return _load(versions[-1])
    if version not in versions:
        msg = f"unknown catalog version {version!r}; this release has: {', '.join(versions)}"
        raise CatalogError(msg)
    return _load(version)


# Cross references. Each check yields (path, what to do) and never stops at the first problem.


def _problems(catalog: Catalog) -> Iterator[Problem]:
    checks: tuple[Callable[[Catalog], Iterator[Problem]], ...] = (
        _check_families,
        _check_skus,
        _check_packs,
        _check_names,
        _check_meters,
        _check_rules,
        _check_promotions,
    )
    for check in checks:
        yield from check(catalog)


def _check_families(catalog: Catalog) -> Iterator[Problem]:
    fallbacks = [
        f"families.{f}.plans.{p}.offering"
        for f, family in catalog.families.items()
        for p, plan in family.plans.items()
        if plan.offering == "fallback"
    ]
    device_families = [
        name for name, f in catalog.families.items() if any(p.features for p in f.plans.values())
    ]
    if len(device_families) > 1:
        yield "families", f"only one may give plans features, found: {', '.join(device_families)}"
    if len(fallbacks) != 1:
        where = ", ".join(fallbacks) or "families"
        yield where, "exactly one plan must have offering: fallback (what holds unlicensed)"
    claims: Counter[str] = Counter()
    for name, family in catalog.families.items():
        path = f"families.{name}"
        claims.update([family.plan_claim] if family.plan_claim else [])
        claims.update(plan.plan_claim for plan in family.plans.values())
        if bool(family.plans) == bool(family.plan_claim):
            yield f"{path}.plan_claim", "give it exactly when the family has no plans"
        ranks = Counter(plan.rank for plan in family.plans.values())
        if any(count > 1 for count in ranks.values()):
            yield f"{path}.plans", "two plans have the same rank; give each its own"
        for plan_name, plan in family.plans.items():
            yield from _check_plan(catalog, name, plan_name, plan)
        yield from _check_pools(catalog, name, family)
    for claim, count in claims.items():
        if count > 1:
            yield "families", f"plan_claim {claim!r} is used {count} times; make each unique"


def _check_plan(catalog: Catalog, family: str, name: str, plan: Plan) -> Iterator[Problem]:
    path = f"families.{family}.plans.{name}"
    if plan_sku(family, name) in catalog.skus:
        yield path, f"its SKU {plan_sku(family, name)!r} is also in skus; rename one"
    if (plan.offering == "sold") != bool(plan.charges):
        yield f"{path}.charges", "a sold plan needs a charge (amount null if empty), others none"
    if (plan.offering == "trial") != (plan.trial_days is not None):
        yield f"{path}.trial_days", "give it exactly when offering is trial"
    if plan.offering == "fallback" and (plan.features is None or plan.limits is None):
        yield path, "the fallback plan needs features and limits"
    if len({charge.every for charge in plan.charges}) != len(plan.charges):
        yield f"{path}.charges", "two charges have the same interval; keep one"
    for meter, allowance in plan.allowances.items():
        where = f"{path}.allowances.{meter}"
        yield from _check_meter_ref(catalog, where, meter, family)
        free = allowance.included == "unlimited"
        ways = [allowance.cap is not None, allowance.overage is not None, free]
        if sum(ways) != 1:
            yield where, "give exactly one of cap, overage, or included: unlimited"
        if allowance.overage is not None and allowance.overage.requires is not None:
            yield f"{where}.overage.requires", "only a pool's overage can require a SKU; remove it"


def _check_pools(catalog: Catalog, name: str, family: Family) -> Iterator[Problem]:
    for meter, pool in family.pools.items():
        where = f"families.{name}.pools.{meter}"
        yield from _check_meter_ref(catalog, where, meter, name)
        required = pool.overage.requires if pool.overage else None
        if required is not None and required not in catalog.skus:
            yield f"{where}.overage.requires", f"{required!r} is not in skus; add or correct it"


def _check_meter_ref(catalog: Catalog, where: str, meter: str, family: str) -> Iterator[Problem]:
    if meter not in catalog.meters:
        yield where, f"{meter!r} is not in meters; add it there or correct the name"
    elif catalog.meters[meter].family != family:
        yield where, f"{meter!r} belongs to family {catalog.meters[meter].family!r}, not {family!r}"


def _check_skus(catalog: Catalog) -> Iterator[Problem]:
    roles = Counter(spec.role for spec in catalog.skus.values())
    for role in ("base_seat", "trial_seat", "analyst_seat"):
        if roles[role] != 1:
            yield "skus", f"exactly one SKU must have role: {role}, found {roles[role]}"
    for sku, spec in catalog.skus.items():
        yield from _check_sku(catalog, sku, spec)


def _check_sku(catalog: Catalog, sku: str, spec: SkuSpec) -> Iterator[Problem]:
    path = f"skus.{sku}"
    if spec.family not in catalog.families:
        yield f"{path}.family", f"{spec.family!r} is not in families; add it or correct the name"
        return
    if not sku.startswith(f"{spec.family}."):
        yield path, f"the id must start with its family: {spec.family}.…"
    if (spec.basis == "prepaid") != bool(spec.charges):
        yield f"{path}.charges", "a prepaid SKU needs a charge (amount null if empty), others none"
    if (spec.basis == "trial") != (spec.trial_days is not None):
        yield f"{path}.trial_days", "give it exactly when basis is trial"
    if (spec.role == "edge_device") != (spec.tier is not None):
        yield f"{path}.tier", "give it exactly when role is edge_device"
    if len({charge.every for charge in spec.charges}) != len(spec.charges):
        yield f"{path}.charges", "two charges have the same interval; keep one"
    for meter in spec.includes:
        yield from _check_meter_ref(catalog, f"{path}.includes.{meter}", meter, spec.family)
        if meter not in catalog.families[spec.family].pools:
            yield (
                f"{path}.includes.{meter}",
                f"has no pool; add families.{spec.family}.pools.{meter}",
            )
    for field, other in [*(("bundles", b) for b in spec.bundles), ("requires", spec.requires)]:
        if other is not None and (other not in catalog.skus or other == sku):
            yield f"{path}.{field}", f"{other!r} is not another SKU; add it to skus or correct it"
        elif other is not None and field == "bundles" and catalog.skus[other].bundles:
            yield f"{path}.bundles", f"{other!r} has bundles of its own; bundles do not nest"


def _check_packs(catalog: Catalog) -> Iterator[Problem]:
    used: Counter[str] = Counter(ref.sku for ref in catalog.pack_refs())
    for name, pack in catalog.packs.items():
        path = f"packs.{name}"
        by_part = pack.per == "part"
        if by_part != bool(pack.parts) or by_part == (pack.sku is not None):
            yield path, "give parts when per is part, a sku when it is not, never both"
        if by_part and pack.adds != Adds():
            yield f"{path}.adds", "a pack bought by the part adds through its parts; move it there"
    for ref in catalog.pack_refs():
        path = f"packs.{ref.name.replace('.', '.parts.')}.sku"
        spec = catalog.skus.get(ref.sku)
        if spec is None or spec.role != "pack":
            yield path, f"{ref.sku!r} is not a SKU with role: pack; add it to skus or correct it"
        elif (spec.unit == "camera") != (ref.per == "camera"):
            yield path, f"{ref.sku!r} is sold per {spec.unit}, the pack per {ref.per}"
    for sku, spec in catalog.skus.items():
        if spec.role == "pack" and used[sku] != 1:
            yield f"skus.{sku}", f"must belong to exactly one pack, found {used[sku]}"


def _check_names(catalog: Catalog) -> Iterator[Problem]:
    known: dict[str, tuple[str, ...]] = {
        "models": tuple(catalog.models),
        "analytics": catalog.analytics,
        "outputs": catalog.outputs,
        "llm": catalog.llm,
    }
    sources = [("base", catalog.base)]
    sources.extend(
        (f"packs.{ref.name.replace('.', '.parts.')}.adds", ref.adds) for ref in catalog.pack_refs()
    )
    for kind, names in known.items():
        granted: set[str] = set()
        for path, adds in sources:
            given: tuple[str, ...] = getattr(adds, kind)
            granted.update(given)
            for index, name in enumerate(given):
                if name not in names:
                    yield f"{path}.{kind}[{index}]", f"{name!r} is not in {kind}; add or correct it"
            if len(set(given)) != len(given):
                yield f"{path}.{kind}", "a name is listed twice; remove one"
        if len(set(names)) != len(names):
            yield kind, "a name is listed twice; remove one"
        for name in names:
            if name not in granted:
                yield f"{kind}.{name}", "neither the base license nor a pack adds it; remove it"


def _check_meters(catalog: Catalog) -> Iterator[Problem]:
    priced: set[str] = {name for name, meter in catalog.meters.items() if meter.pass_through}
    limited: set[str] = set()
    for family in catalog.families.values():
        for plan in family.plans.values():
            limited.update(plan.allowances)
            priced.update(name for name, a in plan.allowances.items() if a.overage)
        limited.update(family.pools)
        priced.update(name for name, pool in family.pools.items() if pool.overage)
    seen: Counter[tuple[str, str]] = Counter()
    for name, meter in catalog.meters.items():
        if meter.family not in catalog.families or not name.startswith(f"{meter.family}."):
            yield f"meters.{name}", "its family must be in families and start its name"
        if meter.pass_through is not None and meter.pass_through not in catalog.skus:
            yield f"meters.{name}.pass_through", f"{meter.pass_through!r} is not in skus; add it"
        seen[meter.family, meter.measures] += 1
        if seen[meter.family, meter.measures] > 1:
            yield (
                f"meters.{name}.measures",
                f"{meter.measures!r} has a meter in this family already",
            )
        found = "priced" if name in priced else "limited" if name in limited else "informing"
        if meter.billing != found:
            yield f"meters.{name}.billing", f"says {meter.billing}, the prices make it {found}"


def _check_rules(catalog: Catalog) -> Iterator[Problem]:
    if sorted(catalog.rules.plan_claim_order) != sorted(catalog.families):
        yield "rules.plan_claim_order", "must name every family once"
    percents = catalog.rules.alert_percents
    if list(percents) != sorted(set(percents)) or not percents:
        yield "rules.alert_percents", "must rise and not be empty"


def _check_promotions(catalog: Catalog) -> Iterator[Problem]:
    plans = {plan_sku(f, p) for f, family in catalog.families.items() for p in family.plans}
    lines = {
        *catalog.charge_lines(),
        *(n for n, m in catalog.meters.items() if m.billing == "priced"),
    }
    for code, offer in catalog.promotions.items():
        path = f"promotions.{code}"
        if (offer.percent is None) == (offer.amount is None):
            yield path, "give exactly one of percent and amount"
        if offer.amount is not None and offer.amount == 0:
            yield f"{path}.amount", "must be more than 0"
        for index, line in enumerate(offer.lines):
            if line not in lines:
                yield f"{path}.lines[{index}]", f"{line!r} is neither a charge nor a priced meter"
        for index, sku in enumerate(offer.plans):
            if sku not in plans:
                yield f"{path}.plans[{index}]", f"{sku!r} is not the SKU of a plan; correct it"
        if offer.last_day is not None and offer.last_day < offer.first_day:
            yield f"{path}.last_day", "is before first_day; put it on or after it"
