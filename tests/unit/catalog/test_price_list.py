"""Every number and name of the price list, written by hand, against the catalog file."""

from decimal import Decimal

import pytest

from brinkbyte.catalog import Catalog, grants, load_catalog, unlicensed_entitlements

pytestmark = pytest.mark.unit

K, M = 1_000, 1_000_000


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


@pytest.mark.parametrize(
    ("sku", "charges"),
    [
        ("vision.base_seat", [("month", "60")]),
        ("vision.trial_seat", []),
        ("vision.device.basic", [("month", "50")]),
        ("vision.device.managed", [("month", "65")]),
        ("vision.pack.advanced_analytics", [("month", "20")]),
        ("vision.pack.active_transport", [("month", None)]),
        ("vision.pack.advanced_vehicles", [("month", None)]),
        ("vision.pack.emergency_vehicles", [("month", None)]),
        ("vision.pack.retail", [("month", None)]),
        ("vision.pack.mining", [("month", None)]),
        ("vision.pack.airports", [("month", None)]),
        ("vision.pack.waterways", [("month", None)]),
        ("vision.pack.intelligence", [("month", "400")]),
        ("vision.analyst_seat", [("month", "120")]),
        ("vision.integration.sms", []),
        ("vision.integration.cloud_export", [("month", "150")]),
        ("vision.integration.vms_connectors", [("once", "500"), ("year", "75")]),
        ("vision.integration.api_overage", []),
    ],
)
def test_sku_prices(catalog: Catalog, sku: str, charges: list[tuple[str, str | None]]) -> None:
    expected = [(every, None if a is None else Decimal(a)) for every, a in charges]
    assert [(c.every, c.amount) for c in catalog.sku(sku).charges] == expected


def test_no_other_skus_and_currency(catalog: Catalog) -> None:
    assert len(catalog.skus) == 18
    assert catalog.currency == "USD"


def test_vision_contents(catalog: Catalog) -> None:
    base = catalog.sku("vision.base_seat")
    assert base.includes == {"vision.api_calls": 50 * K, "vision.llm_tokens": 250 * K}
    trial = catalog.sku("vision.trial_seat")
    assert (trial.trial_days, trial.at_most, trial.basis) == (90, 2, "trial")
    assert catalog.sku("vision.pack.intelligence").bundles == {"vision.analyst_seat": 5}
    assert catalog.sku("vision.analyst_seat").includes == {"vision.llm_tokens": 250 * K}
    assert catalog.sku("vision.device.basic").tier == "basic"
    assert catalog.sku("vision.device.managed").tier == "managed"
    overage = catalog.family("vision").pools["vision.api_calls"].overage
    assert overage is not None
    assert (overage.amount, overage.per) == (Decimal("0.05"), 1000)
    assert catalog.family("vision").pools["vision.llm_tokens"].overage is None


def test_base_license(catalog: Catalog) -> None:
    base = grants(catalog, [])
    assert base.models == {"person", "car", "van", "truck", "bus", "motorcycle"}
    assert base.analytics == {
        "detection", "tracking", "counting", "dwell", "heatmap", "direction", "speed",
        "privacy_mask",
    }  # fmt: skip
    assert base.outputs == {"edge_io", "dashboard", "email", "webhook", "api"}
    assert base.llm == frozenset()


@pytest.mark.parametrize(
    ("pack", "kind", "names"),
    [
        ("advanced_analytics", "analytics", "near_miss interaction_time queue_counter object_size"),
        ("active_transport", "models", "bike scooter pram wheelchair"),
        (
            "advanced_vehicles",
            "models",
            "car ute van bus light_rigid medium_rigid heavy_rigid prime_mover heavy_articulated",
        ),
        ("emergency_vehicles", "models", "police ambulance fire_fighter"),
        ("retail", "models", "trolley staff customer"),
        ("mining", "models", "light_vehicle heavy_vehicle ppe"),
        ("airports", "models", "trolley plane gse"),
        ("waterways", "models", "boat jetski kayak"),
        ("intelligence", "llm", "analyst_seat_full premium_connectors automated_reports"),
        ("integration.sms", "outputs", "sms"),
        ("integration.cloud_export", "outputs", "cloud_export"),
        ("integration.vms_connectors", "outputs", "vms_connectors"),
    ],
)
def test_packs_add_exactly(catalog: Catalog, pack: str, kind: str, names: str) -> None:
    added = grants(catalog, [pack], base=False)
    for field in ("models", "analytics", "outputs", "llm"):
        assert getattr(added, field) == (set(names.split()) if field == kind else set())


def test_sub_classes(catalog: Catalog) -> None:
    assert {name: m.classes for name, m in catalog.models.items() if m.classes} == {
        "gse": ("fuel_truck", "tug", "tractor", "belt_loader"),
        "boat": ("commercial", "recreational", "fishing", "cruise", "tanker", "cargo"),
    }


# devices, retention, export, alerts, API, MQTT, branding, users, alert rules, dashboards
FLEET = {
    "unlicensed": (3, 7, False, False, None, None, False, None, None, None),
    "trial": (3, 7, False, False, None, None, False, None, None, None),
    "starter": (10, 30, True, False, None, None, False, None, None, None),
    "professional": (50, 365, True, True, True, True, False, 10, 100, 20),
    "enterprise": ("unlimited", None, True, True, None, None, True, None, None, None),
}


@pytest.mark.parametrize("name", FLEET)
def test_fleet_plans(catalog: Catalog, name: str) -> None:
    plan = catalog.plan("fleet", name)
    features, limits = plan.features, plan.limits
    assert features is not None
    assert limits is not None
    assert FLEET[name] == (
        features.max_devices,
        features.data_retention_days,
        features.can_export_data,
        features.has_advanced_alerts,
        features.has_api_access,
        features.has_mqtt_access,
        features.has_custom_branding,
        limits.max_users,
        limits.max_alert_rules,
        limits.max_dashboards,
    )
    assert all(charge.amount is None for charge in plan.charges)
    assert plan.trial_days == (14 if name == "trial" else None)
    assert plan.rank == list(FLEET).index(name)


def test_unlicensed_is_three_devices_and_seven_days(catalog: Catalog) -> None:
    held = unlicensed_entitlements(catalog)
    assert (held.device_limit, held.features.data_retention_days) == (3, 7)
    assert held.features.max_devices == 3
    assert held.plan == "unlicensed"
    assert not held.features.has_api_access
    assert not held.pack_quantities


# included, cap, overage amount, per
PLATFORM = {
    "free": (
        "0",
        {
            "llm_tokens": (10 * K, "soft", None, None),
            "agent_executions": (100, "soft", None, None),
            "api_calls": (1 * K, "soft", None, None),
            "storage_gb": (1, "hard", None, None),
            "user_seats": (3, "hard", None, None),
        },
    ),
    "standard": (
        "99",
        {
            "llm_tokens": (1 * M, None, "0.01", 1000),
            "agent_executions": (5 * K, None, "0.10", 1),
            "api_calls": (100 * K, None, "0.001", 1),
            "storage_gb": (100, None, "0.50", 1),
            "user_seats": (25, None, "5", 1),
        },
    ),
    "enterprise": (
        "499",
        {
            "llm_tokens": (10 * M, None, "0.005", 1000),
            "agent_executions": (50 * K, None, "0.05", 1),
            "api_calls": (1 * M, None, "0.0005", 1),
            "storage_gb": (1000, None, "0.25", 1),
            "user_seats": ("unlimited", None, None, None),
        },
    ),
}


@pytest.mark.parametrize("name", PLATFORM)
def test_platform_plans(catalog: Catalog, name: str) -> None:
    price, expected = PLATFORM[name]
    plan = catalog.plan("platform", name)
    assert [(c.every, c.amount) for c in plan.charges] == [("month", Decimal(price))]
    found = {
        meter.removeprefix("platform."): (
            a.included,
            a.cap,
            str(a.overage.amount) if a.overage else None,
            a.overage.per if a.overage else None,
        )
        for meter, a in plan.allowances.items()
    }
    assert found == expected


METERS = {
    "vision.api_calls": ("counter", "priced"),
    "vision.llm_tokens": ("counter", "limited"),
    "vision.agent_executions": ("counter", "informing"),
    "vision.storage_gb": ("gauge", "informing"),
    "vision.sms": ("counter", "priced"),
    "vision.cloud_export_gb": ("counter", "informing"),
    "vision.cameras": ("gauge", "informing"),
    "vision.camera_seats": ("gauge", "informing"),
    "vision.analyst_seats": ("gauge", "informing"),
    "vision.edge_devices": ("gauge", "informing"),
    "fleet.api_calls": ("counter", "informing"),
    "fleet.llm_tokens": ("counter", "informing"),
    "fleet.agent_executions": ("counter", "informing"),
    "fleet.storage_gb": ("gauge", "informing"),
    "fleet.fleet_devices": ("gauge", "informing"),
    "platform.api_calls": ("counter", "priced"),
    "platform.llm_tokens": ("counter", "priced"),
    "platform.agent_executions": ("counter", "priced"),
    "platform.storage_gb": ("gauge", "priced"),
    "platform.user_seats": ("gauge", "priced"),
}


def test_meters(catalog: Catalog) -> None:
    assert {n: (m.kind, m.billing) for n, m in catalog.meters.items()} == METERS
    assert all(name == f"{m.family}.{m.measures}" for name, m in catalog.meters.items())
    assert catalog.meter("vision.sms").pass_through == "vision.integration.sms"


def test_billing_rules(catalog: Catalog) -> None:
    rules = catalog.rules
    assert rules.gauge.bytes_per_gb == 10**9
    assert rules.money.minor_units == 2
    soft = rules.soft_cap
    assert (soft.warn_percent, soft.refuse_percent, soft.refuse_after_days_over) == (100, 120, 7)
    assert rules.alert_percents == (80, 100, 120)
