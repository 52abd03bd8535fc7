"""A catalog file that does not fit together is refused with the path and what to do."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from brinkbyte.catalog import CatalogError, catalog_versions, load_catalog, parse_catalog
from brinkbyte.catalog.docs import main, render

pytestmark = pytest.mark.unit

TEXT = files("brinkbyte.catalog").joinpath("data/catalog-2026-11.yaml").read_text(encoding="utf-8")
PAGE = Path(__file__).parents[3] / "docs" / "catalog.md"


def put(value: object, *path: str | int) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for part in path[:-1]:
            data = data[part]
        data[path[-1]] = value

    return change


def drop(*path: str | int) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for part in path[:-1]:
            data = data[part]
        del data[path[-1]]

    return change


FREE = ("families", "platform", "plans", "free")
OFFER = {"title": "Ten", "percent": "10", "first_day": "2026-11-01"}
SEAT = ("skus", "vision.base_seat")


@pytest.mark.parametrize(
    ("change", "path", "what"),
    [
        (put("trolly", "packs", "retail", "adds", "models", 0), "packs.retail.adds.models[0]",
         "'trolly' is not in models"),
        (put("sms2", "packs", "integration", "parts", "sms", "adds", "outputs", 0),
         "packs.integration.parts.sms.adds.outputs[0]", "'sms2' is not in outputs"),
        (put({}, "models", "dragon"), "models.dragon", "neither the base license nor a pack"),
        (put(["person", "person"], "base", "models"), "base.models", "listed twice"),
        (put(["detection", "detection"], "analytics"), "analytics", "listed twice"),
        (put("vision.pack.retial", "packs", "retail", "sku"), "packs.retail.sku",
         "not a SKU with role: pack"),
        (put("tenant", "packs", "retail", "per"), "packs.retail.sku", "sold per camera"),
        (put("vision.pack.retail", "packs", "integration", "sku"), "packs.integration",
         "give parts when per is part"),
        (put({"models": ["car"]}, "packs", "integration", "adds"), "packs.integration.adds",
         "adds through its parts"),
        (drop("packs", "mining"), "skus.vision.pack.mining", "exactly one pack, found 0"),
        (put(60.0, *SEAT, "charges", 0, "amount"), "skus.vision.base_seat.charges[0].amount",
         "quoted decimal string"),
        (put("-1", *SEAT, "charges", 0, "amount"), "skus.vision.base_seat.charges[0].amount",
         "not an amount"),
        (put([], *SEAT, "charges"), "skus.vision.base_seat.charges", "needs a charge"),
        (put([{"every": "month", "amount": "1"}] * 2, *SEAT, "charges"),
         "skus.vision.base_seat.charges", "same interval"),
        (put("ocean", *SEAT, "family"), "skus.vision.base_seat.family", "not in families"),
        (put("fleet", *SEAT, "family"), "skus.vision.base_seat", "must start with its family"),
        (put("basic", *SEAT, "tier"), "skus.vision.base_seat.tier", "role is edge_device"),
        (put(3, *SEAT, "trial_days"), "skus.vision.base_seat.trial_days", "basis is trial"),
        (put({"vision.sms": 1}, *SEAT, "includes"), "skus.vision.base_seat.includes.vision.sms",
         "has no pool"),
        (put({"vision.nope": 1}, *SEAT, "bundles"), "skus.vision.base_seat.bundles",
         "not another SKU"),
        (put({"vision.pack.intelligence": 1}, *SEAT, "bundles"), "skus.vision.base_seat.bundles",
         "do not nest"),
        (put("pack", *SEAT, "role"), "skus", "role: base_seat, found 0"),
        (put(1, *FREE, "colour"), "families.platform.plans.free.colour", "Extra inputs"),
        (put(1, *FREE, "rank"), "families.platform.plans", "same rank"),
        (put("trial", *FREE, "plan_claim"), "families", "'trial' is used 2 times"),
        (put("trial", *FREE, "offering"), "families.platform.plans.free.trial_days", "exactly"),
        (put([], *FREE, "charges"), "families.platform.plans.free.charges", "needs a charge"),
        (put(None, *FREE, "allowances", "platform.api_calls", "cap"),
         "families.platform.plans.free.allowances.platform.api_calls", "exactly one of cap"),
        (put({"included": 1, "cap": "soft"}, *FREE, "allowances", "vision.sms"),
         "families.platform.plans.free.allowances.vision.sms", "belongs to family 'vision'"),
        (put({"included": 1, "cap": "soft"}, *FREE, "allowances", "platform.x"),
         "families.platform.plans.free.allowances.platform.x", "is not in meters"),
        (put(load_catalog().plan("fleet", "trial").features.model_dump(by_alias=True)  # type: ignore[union-attr]  # fleet plans have features
             , *FREE, "features"), "families", "only one may give plans features"),
        (put("sold", "families", "fleet", "plans", "unlicensed", "offering"), "families",
         "offering: fallback"),
        (drop("families", "fleet", "plans", "unlicensed", "limits"),
         "families.fleet.plans.unlicensed", "needs features and limits"),
        (put("x", "families", "platform", "plan_claim"), "families.platform.plan_claim",
         "no plans"),
        (put("vision.nope", "families", "vision", "pools", "vision.api_calls", "overage",
             "requires"), "families.vision.pools.vision.api_calls.overage.requires",
         "not in skus"),
        (put("vision.base_seat", "families", "platform", "plans", "standard", "allowances",
             "platform.api_calls", "overage", "requires"),
         "families.platform.plans.standard.allowances.platform.api_calls.overage.requires",
         "only a pool"),
        (put("priced", "meters", "vision.cameras", "billing"), "meters.vision.cameras.billing",
         "the prices make it informing"),
        (put("api_calls", "meters", "vision.cameras", "measures"),
         "meters.vision.cameras.measures", "has a meter in this family already"),
        (put("fleet", "meters", "vision.cameras", "family"), "meters.vision.cameras",
         "start its name"),
        (put("vision.nope", "meters", "vision.sms", "pass_through"),
         "meters.vision.sms.pass_through", "not in skus"),
        (put(["fleet"], "rules", "plan_claim_order"), "rules.plan_claim_order", "every family"),
        (put([100, 80], "rules", "alert_percents"), "rules.alert_percents", "must rise"),
        (put("block", "rules", "overage"), "rules.overage", "linear"),
        (drop("rules", "soft_cap"), "rules.soft_cap", "Field required"),
        (put(10.5, "rules", "annual_payment", "percent"), "rules.annual_payment.percent",
         "quoted decimal string"),
        (put("0", "rules", "annual_payment", "percent"), "rules.annual_payment.percent",
         "greater than 0"),
        (put({**OFFER, "amount": "5"}, "promotions", "TEN"), "promotions.TEN",
         "exactly one of percent and amount"),
        (put({**OFFER, "percent": None}, "promotions", "TEN"), "promotions.TEN", "exactly one of"),
        (put({**OFFER, "percent": "101"}, "promotions", "TEN"), "promotions.TEN.percent",
         "less than or equal to 100"),
        (put({**OFFER, "percent": None, "amount": "0"}, "promotions", "TEN"),
         "promotions.TEN.amount", "more than 0"),
        (put({**OFFER, "lines": ["vision.nope"]}, "promotions", "TEN"), "promotions.TEN.lines[0]",
         "neither a charge nor a priced meter"),
        (put({**OFFER, "plans": ["vision.base_seat"]}, "promotions", "TEN"),
         "promotions.TEN.plans[0]", "not the SKU of a plan"),
        (put({**OFFER, "last_day": "2026-10-31"}, "promotions", "TEN"), "promotions.TEN.last_day",
         "before first_day"),
        (put(OFFER, "promotions", "ten"), "promotions.ten", "should match pattern"),
    ],
)  # fmt: skip
def test_inconsistent_files_are_refused(
    change: Callable[[Any], None], path: str, what: str
) -> None:
    data = yaml.safe_load(TEXT)
    change(data)
    with pytest.raises(CatalogError) as caught:
        parse_catalog(yaml.safe_dump(data), "prices.yaml")
    assert any(
        problem.startswith(f"prices.yaml: {path}") and what in problem
        for problem in caught.value.problems
    ), caught.value.problems


def test_a_plan_may_not_share_its_sku() -> None:
    data = yaml.safe_load(TEXT)
    data["skus"]["platform.plan.free"] = {**data["skus"]["vision.device.basic"]}
    with pytest.raises(CatalogError, match=r"families\.platform\.plans\.free: its SKU"):
        parse_catalog(yaml.safe_dump(data))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: 1\na: 2\n", "given twice"),
        ("a: [", "not readable YAML"),
        ("", "Input should be an object"),
        ("a: 2026-01-01\n", "version: Field required"),
    ],
)
def test_unreadable_documents_are_refused(text: str, what: str) -> None:
    with pytest.raises(CatalogError, match=what):
        parse_catalog(text)


def test_versions() -> None:
    assert catalog_versions()[-1] == "2026-11"
    assert load_catalog("2026-11") is load_catalog()
    with pytest.raises(CatalogError, match="this release has: 2026-11"):
        load_catalog("1999-01")


def test_meters_are_found_by_what_they_measure() -> None:
    catalog = load_catalog()
    assert catalog.meter_for("platform", "api_calls") == "platform.api_calls"
    with pytest.raises(CatalogError, match="measure of family 'fleet': 'sms'"):
        catalog.meter_for("fleet", "sms")


def test_the_page_is_current() -> None:
    assert main(["--check", str(PAGE)]) == 0


def test_a_stale_page_is_reported_and_rewritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "catalog.md"
    assert main(["--check", str(page)]) == 1
    page.write_text("old", encoding="utf-8")
    assert main(["--check", str(page)]) == 1
    assert "run: python -m brinkbyte.catalog.docs" in capsys.readouterr().err
    assert main([str(page)]) == 0
    assert main(["--check", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == render(load_catalog())


def test_the_page_lists_promotion_codes() -> None:
    data = yaml.safe_load(TEXT)
    assert "None is offered at present." in render(parse_catalog(yaml.safe_dump(data)))
    data["promotions"] = {
        "TEN": OFFER,
        "FIVE-OFF": {
            "title": "Five",
            "amount": "5",
            "lines": ["vision.base_seat", "platform.api_calls"],
            "plans": ["platform.plan.standard"],
            "months": 3,
            "first_day": "2026-11-01",
            "last_day": "2026-12-31",
        },
    }
    data["rules"]["annual_payment"]["percent"] = "10"
    page = render(parse_catalog(yaml.safe_dump(data)))
    assert (
        "| `TEN` | Ten | 10 % | every prepaid charge | any | for ever | from 2026-11-01 |" in page
    )
    assert (
        "| `FIVE-OFF` | Five | 5.00 USD a month | `vision.base_seat`, `platform.api_calls` | "
        "`platform.plan.standard` | 3 months | 2026-11-01 to 2026-12-31 |"
    ) in page
    assert "| `annual_payment.percent` | 10 |" in page
