"""What can be bought, what it entitles to, and what it costs."""

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from brinkbyte.catalog import (
    CatalogError,
    Entitlements,
    OverrideValue,
    Terms,
    check_terms,
    compile_entitlements,
    grants,
    load_catalog,
    month_cost,
    override_keys,
    quote,
    unlicensed_entitlements,
)

pytestmark = pytest.mark.unit

CATALOG = load_catalog()
PRICED = sorted(
    sku
    for sku, spec in CATALOG.skus.items()
    if spec.requires is None and all(c.amount is not None for c in spec.charges)
)
PACKS = sorted(ref.name for ref in CATALOG.pack_refs())

ENTERPRISE: dict[str, OverrideValue] = {
    "fleet.plan.enterprise.price": "1500",
    "fleet.plan.enterprise.dataRetentionDays": 730,
    "fleet.plan.enterprise.maxUsers": "unlimited",
    "fleet.plan.enterprise.maxAlertRules": 500,
    "fleet.plan.enterprise.maxDashboards": 50,
}


@st.composite
def priced_terms(draw: st.DrawFn) -> Terms:
    quantities = {
        sku: draw(st.integers(0, CATALOG.sku(sku).at_most or 20_000))
        for sku in draw(st.sets(st.sampled_from(PRICED)))
    }
    if quantities.get("vision.pack.intelligence"):
        quantities["vision.analyst_seat"] = draw(st.integers(0, 100))
    plans = draw(st.sampled_from([{}, *({"platform": p} for p in ("free", "standard"))]))
    return Terms(plans=plans, quantities=quantities)


# --- what is refused


@pytest.mark.parametrize(
    ("terms", "named"),
    [
        (Terms(quantities={"vision.bas_seat": 1}), "did you mean 'vision.base_seat'"),
        (Terms(quantities={"zzz": 1}), "unknown SKU 'zzz'; known: "),
        (Terms(plans={"flet": "trial"}), "unknown family 'flet'"),
        (Terms(plans={"fleet": "gold"}), "unknown plan of family 'fleet': 'gold'"),
        (Terms(plans={"vision": "pro"}), "'vision' has no plans"),
        (Terms(plans={"fleet": "unlicensed"}), "is not sold"),
        (Terms(quantities={"fleet.plan.starter": 1}), "is a plan: set plans['fleet']"),
        (Terms(quantities={"vision.base_seat": -1}), "'vision.base_seat' is -1"),
        (Terms(quantities={"vision.base_seat": 10**9 + 1}), "from 0 to"),
        (Terms(quantities={"vision.trial_seat": 3}), "at most 2"),
        (Terms(quantities={"vision.pack.intelligence": 2}), "at most 1"),
        (Terms(quantities={"vision.analyst_seat": 1}), "together with 'vision.pack.intelligence'"),
        (Terms(overrides={"vision.base_seat.prise": "1"}), "unknown override"),
        (Terms(overrides={"vision.base_seat.price": "-1"}), "not an amount of money"),
        (Terms(overrides={"vision.base_seat.price": "NaN"}), "not an amount of money"),
        (Terms(overrides={"vision.base_seat.price": 7}), "quoted decimal string"),
        (Terms(overrides={"vision.maxUsers": -1}), "whole number"),
        (Terms(overrides={"vision.maxUsers": True}), "whole number"),
        (Terms(overrides={"vision.maxUsers": "many"}), "whole number"),
        (Terms(overrides={"vision.hasApiAccess": 1}), "must be true or false"),
        (Terms(overrides={"fleet.plan.unlicensed.maxDevices": 99}), "unknown override"),
        (Terms(overrides={"vision.maxDevices": 99}), "unknown override"),
    ],
)
def test_bad_terms_are_refused_by_name(terms: Terms, named: str) -> None:
    for judge in (check_terms, compile_entitlements, quote):
        with pytest.raises(CatalogError) as caught:
            judge(CATALOG, terms)
        assert named in str(caught.value)


def test_every_problem_is_listed() -> None:
    with pytest.raises(CatalogError) as caught:
        check_terms(CATALOG, Terms(plans={"nope": "x"}, quantities={"zzz": 1, "yyy": -1}))
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("pack", ["retail", "waterways", "mining"])
def test_pack_without_price_needs_the_customers_own(pack: str) -> None:
    sku = f"vision.pack.{pack}"
    with pytest.raises(CatalogError, match=rf"{sku}.*contact sales.*{sku}\.price"):
        check_terms(CATALOG, Terms(quantities={sku: 1}))
    check_terms(CATALOG, Terms(quantities={sku: 0}))
    own = Terms(quantities={sku: 3}, overrides={f"{sku}.price": Decimal("12.50")})
    assert quote(CATALOG, own).monthly_total == Decimal("37.50")


@pytest.mark.parametrize("plan", ["starter", "professional", "enterprise"])
def test_fleet_plans_cannot_be_bought_at_a_price_we_do_not_have(plan: str) -> None:
    with pytest.raises(CatalogError, match=rf"fleet\.plan\.{plan}\.price"):
        check_terms(CATALOG, Terms(plans={"fleet": plan}))


@pytest.mark.parametrize("missing", sorted(ENTERPRISE))
def test_every_empty_value_of_enterprise_is_needed(missing: str) -> None:
    given_values = {key: value for key, value in ENTERPRISE.items() if key != missing}
    with pytest.raises(CatalogError, match=missing.replace(".", r"\.")):
        check_terms(CATALOG, Terms(plans={"fleet": "enterprise"}, overrides=given_values))
    check_terms(CATALOG, Terms(plans={"fleet": "enterprise"}, overrides=ENTERPRISE))


def test_terms_are_immutable_and_strict() -> None:
    source = {"vision.base_seat": 1}
    terms = Terms(quantities=source)
    source["vision.base_seat"] = 99
    assert terms.quantities == {"vision.base_seat": 1}
    with pytest.raises(TypeError):
        terms.quantities["vision.base_seat"] = 2  # type: ignore[index]  # the point of the test
    with pytest.raises(ValidationError):
        Terms(quantities={"vision.base_seat": 1.5})  # type: ignore[dict-item]  # refused input
    with pytest.raises(ValidationError):
        Terms.model_validate({"overrides": {"vision.base_seat.price": 1.5}})


@given(priced_terms())
def test_terms_and_entitlements_survive_json(terms: Terms) -> None:
    assert Terms.model_validate_json(terms.model_dump_json()) == terms
    held = compile_entitlements(CATALOG, terms)
    dumped = held.model_dump_json(by_alias=True)
    assert Entitlements.model_validate_json(dumped) == held
    assert compile_entitlements(CATALOG, terms).model_dump_json(by_alias=True) == dumped


@given(st.text(max_size=30))
def test_unknown_names_are_refused_everywhere(name: str) -> None:
    if name not in CATALOG.skus:
        with pytest.raises(CatalogError):
            check_terms(CATALOG, Terms(quantities={name: 1}))
    if name not in PACKS:
        with pytest.raises(CatalogError):
            grants(CATALOG, [name])
    if name not in CATALOG.meters:
        with pytest.raises(CatalogError):
            month_cost(CATALOG, Terms(), {name: Decimal(1)})
    if name not in override_keys(CATALOG):
        with pytest.raises(CatalogError):
            check_terms(CATALOG, Terms(overrides={name: "1"}))


# --- entitlements


def test_nothing_bought_is_unlicensed() -> None:
    assert compile_entitlements(CATALOG, Terms()) == unlicensed_entitlements(CATALOG)
    zero = Terms(quantities={"vision.base_seat": 0})
    assert compile_entitlements(CATALOG, zero) == unlicensed_entitlements(CATALOG)


def test_a_vision_customer() -> None:
    held = compile_entitlements(
        CATALOG,
        Terms(
            quantities={
                "vision.base_seat": 120,
                "vision.trial_seat": 2,
                "vision.device.basic": 1,
                "vision.device.managed": 2,
                "vision.pack.advanced_analytics": 40,
                "vision.pack.intelligence": 1,
                "vision.analyst_seat": 2,
                "vision.integration.sms": 1,
            },
            overrides={"vision.dataRetentionDays": 90, "vision.hasApiAccess": True},
        ),
    )
    assert held.plan == "vision"
    assert (held.base_seats, held.trial_seats, held.trial_seat_days) == (120, 2, 90)
    assert held.devices_bought == {"basic": 1, "managed": 2}
    assert held.device_limit == held.features.max_devices == 3
    assert held.features.data_retention_days == 90
    assert held.features.has_api_access
    assert not held.features.can_export_data
    assert held.limits.max_users is None
    assert held.pack_quantities == {"advanced_analytics": 40}
    assert held.tenant_packs == {"intelligence", "integration.sms"}
    assert held.analyst_seats == 7
    calls, tokens = held.allowances["vision.api_calls"], held.allowances["vision.llm_tokens"]
    assert (calls.included, calls.cap, calls.overage) == (6_000_000, "soft", None)
    assert tokens.included == 120 * 250_000 + 7 * 250_000
    assert not any(meter.startswith("platform.") for meter in held.allowances)


def test_api_overage_is_sold_by_its_part() -> None:
    terms = Terms(quantities={"vision.base_seat": 1, "vision.integration.api_overage": 1})
    calls = compile_entitlements(CATALOG, terms).allowances["vision.api_calls"]
    assert calls.cap is None
    assert calls.overage is not None
    assert (calls.overage.amount, calls.overage.per) == (Decimal("0.05"), 1000)


def test_the_fleet_plan_decides_the_device_limit() -> None:
    bought = {"vision.device.basic": 80}
    own: dict[str, OverrideValue] = {
        "fleet.plan.professional.price": "200",
        "fleet.plan.professional.maxUsers": 12,
        "vision.dataRetentionDays": 9000,
    }
    held = compile_entitlements(
        CATALOG, Terms(plans={"fleet": "professional"}, quantities=bought, overrides=own)
    )
    assert (held.plan, held.device_limit) == ("professional", 50)
    assert held.features.data_retention_days == 365
    assert held.limits.max_users == 12
    unlimited = compile_entitlements(
        CATALOG, Terms(plans={"fleet": "enterprise"}, overrides=ENTERPRISE)
    )
    assert unlimited.device_limit is None
    assert unlimited.features.max_devices is None
    assert unlimited.features.data_retention_days == 730
    assert unlimited.features.has_custom_branding
    assert not unlimited.features.has_mqtt_access
    assert unlimited.limits.max_users is None
    assert unlimited.limits.max_alert_rules == 500


def test_a_value_agreed_for_one_plan_does_not_widen_another() -> None:
    own = {**ENTERPRISE, "fleet.plan.professional.price": "200"}
    held = compile_entitlements(CATALOG, Terms(plans={"fleet": "professional"}, overrides=own))
    assert held.features.data_retention_days == 365
    assert held.limits.max_alert_rules == 100


def test_fleet_trial() -> None:
    held = compile_entitlements(CATALOG, Terms(plans={"fleet": "trial"}))
    assert (held.plan, held.plan_trial_days, held.device_limit) == ("trial", 14, 3)
    assert quote(CATALOG, Terms(plans={"fleet": "trial"})).monthly_total == 0


def test_platform_alone_leaves_devices_as_unlicensed() -> None:
    own = {"platform.plan.standard.llm_tokens.included": 2_000_000}
    held = compile_entitlements(CATALOG, Terms(plans={"platform": "standard"}, overrides=own))
    assert held.plan == "platform_standard"
    assert (held.device_limit, held.features.data_retention_days) == (3, 7)
    assert held.allowances["platform.llm_tokens"].included == 2_000_000
    assert held.allowances["platform.storage_gb"].included == 100
    top = compile_entitlements(CATALOG, Terms(plans={"platform": "enterprise"}))
    assert top.allowances["platform.user_seats"].included is None


@given(priced_terms(), st.sampled_from(PRICED), st.integers(1, 50))
def test_buying_more_never_entitles_to_less(terms: Terms, sku: str, more: int) -> None:
    base = {**terms.quantities, "vision.base_seat": terms.quantities.get("vision.base_seat", 0) + 1}
    limit = CATALOG.sku(sku).at_most
    raised = base.get(sku, 0) + more
    wider = {**base, sku: raised if limit is None else min(limit, raised)}
    low = compile_entitlements(CATALOG, Terms(plans=terms.plans, quantities=base))
    high = compile_entitlements(CATALOG, Terms(plans=terms.plans, quantities=wider))
    assert high.base_seats >= low.base_seats
    assert high.trial_seats >= low.trial_seats
    assert high.analyst_seats >= low.analyst_seats
    assert high.tenant_packs >= low.tenant_packs
    assert low.device_limit is not None
    assert high.device_limit is not None
    assert high.device_limit >= low.device_limit
    assert all(high.pack_quantities[p] >= n for p, n in low.pack_quantities.items())
    for meter, allowance in low.allowances.items():
        included = high.allowances[meter].included
        assert included is None or (
            allowance.included is not None and included >= allowance.included
        )


# --- money


def test_quote_by_hand() -> None:
    offer = quote(
        CATALOG,
        Terms(
            plans={"platform": "standard", "fleet": "starter"},
            quantities={
                "vision.base_seat": 7,
                "vision.trial_seat": 2,
                "vision.device.managed": 1,
                "vision.pack.retail": 4,
                "vision.integration.vms_connectors": 1,
                "vision.integration.sms": 1,
            },
            overrides={"vision.base_seat.price": "55.555"},
        ),
    )
    assert {line.line: line.amount for line in offer.lines} == {
        "platform.plan.standard": Decimal("99.00"),
        "vision.base_seat": Decimal("388.88"),  # 388.885, half to even
        "vision.trial_seat": Decimal("0.00"),
        "vision.device.managed": Decimal("65.00"),
        "vision.integration.vms_connectors.once": Decimal("500.00"),
        "vision.integration.vms_connectors.year": Decimal("75.00"),
    }
    assert offer.monthly_total == Decimal("552.88")
    assert (offer.yearly_total, offer.one_time_total) == (Decimal("75.00"), Decimal("500.00"))
    assert [(x.sku, x.quantity) for x in offer.contact_sales] == [
        ("fleet.plan.starter", 1),
        ("vision.pack.retail", 4),
    ]
    rates = {rate.meter: rate for rate in offer.rates}
    assert rates["vision.sms"].amount is None
    assert rates["platform.llm_tokens"].amount == Decimal("0.01")
    assert "vision.api_calls" not in rates


@given(priced_terms())
def test_totals_are_the_sums_of_their_lines(terms: Terms) -> None:
    offer = quote(CATALOG, terms)
    for every, total in (
        ("month", offer.monthly_total),
        ("year", offer.yearly_total),
        ("once", offer.one_time_total),
    ):
        assert sum(x.amount for x in offer.lines if x.every == every) == total
    assert not offer.contact_sales
    for line in offer.lines:
        assert line.amount == line.unit_price * line.quantity
        assert line.amount.as_tuple().exponent == -2


@given(
    st.decimals(0, 10**9, places=5, allow_nan=False, allow_infinity=False), st.integers(1, 10**9)
)
def test_money_is_exact_in_any_decimal_context(price: Decimal, quantity: int) -> None:
    terms = Terms(
        quantities={"vision.base_seat": quantity}, overrides={"vision.base_seat.price": price}
    )
    with localcontext() as narrow:
        narrow.prec = 3
        (line,) = quote(CATALOG, terms).lines
    # Integer arithmetic in units of 10^-5, rounded half to even by hand.
    whole, rest = divmod(int(price.scaleb(5)) * quantity, 1000)
    cents = whole + (rest > 500 or (rest == 500 and whole % 2 == 1))
    assert int(line.amount.scaleb(2)) == cents
    assert line.amount.as_tuple().exponent == -2


def test_month_cost_by_hand() -> None:
    terms = Terms(
        plans={"platform": "standard"},
        quantities={
            "vision.base_seat": 2,
            "vision.integration.api_overage": 1,
            "vision.integration.vms_connectors": 1,
        },
    )
    lines = month_cost(
        CATALOG,
        terms,
        {
            "vision.api_calls": Decimal(100_500),
            "vision.sms": Decimal(10),
            "vision.edge_devices": Decimal(900),
            "platform.llm_tokens": Decimal(1_234_567),
            "platform.agent_executions": Decimal(5_000),
            "platform.storage_gb": Decimal("100.5"),
            "platform.user_seats": Decimal(27),
            "fleet.api_calls": Decimal(10**9),
        },
        carried_costs={"vision.sms": Decimal("0.825")},
    )
    assert {(x.kind, x.line): x.amount for x in lines} == {
        ("prepaid", "platform.plan.standard"): Decimal("99.00"),
        ("prepaid", "vision.base_seat"): Decimal("120.00"),
        ("overage", "vision.api_calls"): Decimal("0.02"),  # 0.025, half to even
        ("pass_through", "vision.sms"): Decimal("0.82"),
        ("overage", "platform.llm_tokens"): Decimal("2.35"),  # 234.567 x 0.01, no blocks
        ("overage", "platform.storage_gb"): Decimal("0.25"),
        ("overage", "platform.user_seats"): Decimal("10.00"),
    }


def test_caps_cost_nothing_and_families_do_not_mix() -> None:
    usage = {"platform.llm_tokens": Decimal(10**9), "vision.api_calls": Decimal(10**9)}
    lines = month_cost(CATALOG, Terms(plans={"platform": "free"}), usage)
    assert [(x.line, x.amount) for x in lines] == [("platform.plan.free", Decimal("0.00"))]
    capped = month_cost(CATALOG, Terms(quantities={"vision.base_seat": 1}), usage)
    assert [x.line for x in capped] == ["vision.base_seat"]


def test_own_overage_price_and_unlimited_allowance() -> None:
    own = {
        "platform.plan.standard.api_calls.overage": "0.0002",
        "platform.plan.standard.user_seats.included": "unlimited",
    }
    terms = Terms(plans={"platform": "standard"}, overrides=own)
    usage = {"platform.api_calls": Decimal(200_000), "platform.user_seats": Decimal(500)}
    lines = month_cost(CATALOG, terms, usage)
    assert [(x.line, x.amount) for x in lines[1:]] == [("platform.api_calls", Decimal("20.00"))]
    assert "platform.user_seats" not in {rate.meter for rate in quote(CATALOG, terms).rates}


@pytest.mark.parametrize(
    ("usage", "carried", "named"),
    [
        ({"vision.api_calls": Decimal(-1)}, {}, "vision.api_calls"),
        ({"vision.api_calls": Decimal("NaN")}, {}, "vision.api_calls"),
        ({"vision.sms": Decimal(1)}, {}, "carried_costs"),
        ({}, {"vision.api_calls": Decimal(1)}, "does not pass costs on"),
        ({"vision.calls": Decimal(1)}, {}, "unknown meter"),
    ],
)
def test_bad_usage_is_refused(
    usage: dict[str, Decimal], carried: dict[str, Decimal], named: str
) -> None:
    with pytest.raises(CatalogError, match=named):
        month_cost(CATALOG, Terms(), usage, carried_costs=carried)


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_more_use_never_costs_less(used: int, more: int) -> None:
    terms = Terms(plans={"platform": "enterprise"})

    def cost(tokens: int) -> Decimal:
        lines = month_cost(CATALOG, terms, {"platform.llm_tokens": Decimal(tokens)})
        return sum((x.amount for x in lines), Decimal(0))

    assert cost(used + more) >= cost(used) >= Decimal(499)
