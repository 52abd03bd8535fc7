"""A site without a line: its request becomes a bundle, with the vendor's real database and keys."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from typer.testing import CliRunner

from brinkbyte.billing.db import Database
from brinkbyte.billing.licenses.bundles import BundleRefusedError, MadeBundle, make_bundle
from brinkbyte.billing.licenses.keys import make_signing_keys
from brinkbyte.billing.migrate import ADMIN
from brinkbyte.cli.main import build_app
from brinkbyte.kit.canonical import sha256_hex
from brinkbyte.kit.errors import PermanentError
from brinkbyte.kit.pools import postgres_pool
from brinkbyte.license.bundle import Bundle, check_cameras, read_bundle
from brinkbyte.license.claims import CameraClaims, RevocationsClaims
from brinkbyte.license.keys import SigningKey, load_roots
from brinkbyte.license.request import (
    RequestClaims,
    SiteRequest,
    inventory_bytes,
    read_request,
    sign_request,
)
from brinkbyte.license.tokens import verify
from brinkbyte.license.wire import Held, InventoryRequest
from services.billing.conftest import Billing
from services.billing.site import camera, device, key_pair
from support import programs
from support.billing import CUSTOMER, DEFAULT_TERMS, BillingApi, source_environment

pytestmark = pytest.mark.services
DAY = 86_400
ids = iter(range(10**9))


def inventory(devices: int = 1, cameras: int = 2, **more: Any) -> InventoryRequest:
    return InventoryRequest.model_validate(
        {
            "devices": [device(number) for number in range(1, devices + 1)],
            "cameras": [camera(number) for number in range(1, cameras + 1)],
            **more,
        }
    )


def request_text(
    declared: InventoryRequest,
    *,
    now: int,
    key: SigningKey | None = None,
    **more: Any,
) -> str:
    data = inventory_bytes(declared)
    claims = {
        "sub": CUSTOMER,
        "jti": f"request-{next(ids)}",
        "iat": now,
        "name": "shop.tenant",
        "uid": "uid-tenant",
        "cluster_fingerprint": "cluster-1",
        "version": "0.1.0",
        "inventory_sha256": sha256_hex(data),
        **more,
    }
    return sign_request(RequestClaims.model_validate(claims), data, key or key_pair())


class Vendor:
    """The vendor's administration, with the test's clock."""

    def __init__(self, billing: Billing, database: Database) -> None:
        self.billing = billing
        self.context = replace(billing.context, database=database)
        self.roots = load_roots((billing.directory / "root" / "roots.json").read_bytes())

    def request(self, *what: Any, **more: Any) -> SiteRequest:
        now = self.billing.clock.now
        declared = what[0] if what else inventory()
        text = request_text(declared, now=more.pop("at", now), **more)
        return read_request(text, now=now)

    async def bundle(self, request: SiteRequest, **more: Any) -> MadeBundle:
        return await make_bundle(self.context, request, actor="test", **more)

    def read(self, made: MadeBundle) -> Bundle:
        found = read_bundle(made.text, self.roots, now=self.billing.clock.now)
        check_cameras(found, now=self.billing.clock.now)
        return found


@asynccontextmanager
async def vendor_of(billing: Billing) -> AsyncIterator[Vendor]:
    async with postgres_pool(billing.dsn(ADMIN), max_size=2) as pool:
        yield Vendor(billing, Database(pool))


@pytest.fixture
async def vendor(billing: Billing) -> AsyncIterator[Vendor]:
    """Of the customer acme, whose contract ends in 200 days."""
    async with vendor_of(billing) as made:
        await contract(billing, days=200)
        yield made


async def contract(billing: Billing, *, days: int | None, **terms: Any) -> int | None:
    end = None if days is None else billing.clock.now + days * DAY
    await billing.customer(CUSTOMER, {**DEFAULT_TERMS, **terms}, hard_end=end)
    return end


async def test_a_bundle_has_everything_until_the_contract_ends(
    billing: Billing, vendor: Vendor
) -> None:
    made = await vendor.bundle(vendor.request())
    found = vendor.read(made)
    contract_end = billing.query("SELECT hard_end FROM subscriptions")[0]["hard_end"]
    assert found.license.exp == found.claims.exp == int(contract_end.timestamp())
    assert found.license.cnf.jkt == key_pair().kid
    assert found.license.aud == found.instance_id
    assert found.license.cluster_fingerprint == "cluster-1"
    tokens = [
        verify(each.token or "", CameraClaims, found.key_set.keys, now=billing.clock.now)
        for each in found.content.cameras
    ]
    assert [each.camera_id for each in tokens] == ["cam-1", "cam-2"]
    assert {each.exp for each in tokens} == {found.license.exp}
    assert [each.status for each in found.content.devices] == ["registered"]
    (row,) = billing.query("SELECT * FROM instances")
    assert row["air_gapped"]
    assert row["key_id"] == key_pair().kid
    assert billing.query("SELECT 1 FROM credentials") == []


async def test_the_same_request_gets_the_same_bundle_and_doubles_nothing(
    billing: Billing, vendor: Vendor
) -> None:
    request = vendor.request()
    first = await vendor.bundle(request)
    billing.clock.advance(days=3)
    second = await vendor.bundle(request)
    assert second.content == first.content
    assert second.text == first.text
    assert (first.new, second.new) == (True, False)
    # What the site holds by then changes nothing in what it should hold.
    number = vendor.read(first).license.license_sequence
    again = vendor.request(inventory(held=Held(license_sequence=number, key_set_number=1)))
    assert (await vendor.bundle(again)).text == first.text
    for table, count in (("instances", 1), ("seats", 2), ("devices", 1), ("bundles", 1)):
        assert len(billing.query(f"SELECT 1 FROM {table}")) == count, table
    assert len(billing.query("SELECT 1 FROM seat_history WHERE action = 'taken'")) == 2
    assert len(billing.query("SELECT 1 FROM audit_log WHERE action = 'bundle.made'")) == 1


async def test_a_site_that_holds_more_than_we_know_of_gets_something_newer(
    billing: Billing, vendor: Vendor
) -> None:
    first = vendor.read(await vendor.bundle(vendor.request()))
    billing.clock.advance(hours=1)
    # Our database was restored: the site has a license of which we have no trace.
    lost = first.license.license_sequence + 1_000_000
    asked = vendor.request(inventory(held=Held(license_sequence=lost)))
    assert vendor.read(await vendor.bundle(asked)).license.license_sequence > lost


async def test_a_renewed_contract_makes_a_newer_bundle_of_the_same_request(
    billing: Billing, vendor: Vendor
) -> None:
    request = vendor.request()
    first = vendor.read(await vendor.bundle(request))
    billing.clock.advance(days=100)
    end = await contract(billing, days=300)
    second = vendor.read(await vendor.bundle(request))
    assert second.claims.bundle_sequence > first.claims.bundle_sequence
    assert second.license.license_sequence > first.license.license_sequence
    assert second.license.exp == end
    assert second.instance_id == first.instance_id


async def test_until_only_shortens(billing: Billing, vendor: Vendor) -> None:
    request, now = vendor.request(), billing.clock.now
    full = vendor.read(await vendor.bundle(request))
    short = vendor.read(await vendor.bundle(request, until=now + 30 * DAY))
    assert short.license.exp == now + 30 * DAY
    assert short.claims.bundle_sequence > full.claims.bundle_sequence
    for until in (now - 1, now + 202 * DAY):
        with pytest.raises(BundleRefusedError) as refused:
            await vendor.bundle(request, until=until)
        assert refused.value.reason == "UntilInvalid"
    back = vendor.read(await vendor.bundle(request))
    assert back.license.exp == full.license.exp


async def test_a_contract_without_an_end_needs_a_date_of_at_most_400_days(
    billing: Billing,
) -> None:
    async with vendor_of(billing) as vendor:
        await contract(billing, days=None)
        request, now = vendor.request(), billing.clock.now
        with pytest.raises(BundleRefusedError, match="give --until DATE") as refused:
            await vendor.bundle(request)
        assert refused.value.reason == "NoContractEnd"
        with pytest.raises(BundleRefusedError, match="at most 400 days"):
            await vendor.bundle(request, until=now + 402 * DAY)
        assert billing.query("SELECT 1 FROM instances") == []
        found = vendor.read(await vendor.bundle(request, until=now + 90 * DAY))
        assert found.license.exp == now + 90 * DAY
        await contract(billing, days=1000)
        longest = vendor.read(await vendor.bundle(request))
        assert now + 400 * DAY <= longest.license.exp <= billing.clock.now + 400 * DAY


async def test_who_has_no_contract_gets_no_bundle(billing: Billing) -> None:
    async with vendor_of(billing) as vendor:
        with pytest.raises(PermanentError) as refused:
            await vendor.bundle(vendor.request())
        assert refused.value.reason == "UnknownCustomer"
        await billing.customer(CUSTOMER)
        for more in ({}, {"status": "suspended"}):
            if more:
                await billing.buy(CUSTOMER, DEFAULT_TERMS, **more)
            with pytest.raises(BundleRefusedError) as refused:
                await vendor.bundle(vendor.request(), until=billing.clock.now + 30 * DAY)
            assert refused.value.reason == "SubscriptionInactive"
        assert billing.query("SELECT 1 FROM instances") == []


async def test_what_is_beyond_the_quota_is_refused_in_the_bundle(
    billing: Billing, vendor: Vendor
) -> None:
    found = vendor.read(await vendor.bundle(vendor.request(inventory(cameras=12))))
    refused = [each for each in found.content.cameras if each.status == "refused"]
    assert [(each.camera_id, each.reason) for each in refused] == [
        ("cam-11", "QuotaExceeded"),
        ("cam-12", "QuotaExceeded"),
    ]
    assert refused[0].use is not None
    assert (refused[0].use.used, refused[0].use.limit) == (10, 10)
    assert [each.camera_id for each in found.content.asked_cameras] == ["cam-11", "cam-12"]
    assert found.content.camera_use.used == 10
    # Nobody waits for a camera that the request no longer has: the next one gets its seat.
    declared = inventory(cameras=12)
    swapped = declared.model_copy(update={"cameras": declared.cameras[1:]})
    found = vendor.read(await vendor.bundle(vendor.request(swapped)))
    refused = [each for each in found.content.cameras if each.status == "refused"]
    assert [each.camera_id for each in refused] == ["cam-12"]


async def test_another_site_needs_the_vendors_word(billing: Billing, vendor: Vendor) -> None:
    first = await vendor.bundle(vendor.request())
    elsewhere = {"key": key_pair(1), "uid": "uid-2", "cluster_fingerprint": "cluster-2"}
    for more in (
        elsewhere,
        {**elsewhere, "cluster_fingerprint": "cluster-1", "name": "shop.other"},
        # A copy of the key pair in another cluster is another site, too.
        {"cluster_fingerprint": "cluster-2"},
    ):
        with pytest.raises(BundleRefusedError, match="--replace") as refused:
            await vendor.bundle(vendor.request(**more))
        assert refused.value.reason == "InstanceExists"
    assert (await vendor.bundle(vendor.request())).text == first.text
    second = await vendor.bundle(vendor.request(**elsewhere), replace_instance=True)
    assert second.claims.aud != first.claims.aud
    rows = billing.query("SELECT instance_id, ended_reason FROM instances ORDER BY created_at")
    assert [each["ended_reason"] for each in rows] == ["RequestedAgain", None]
    assert {each["seat_id"] for each in billing.query("SELECT seat_id FROM seats")} == {
        each.seat for each in first.content.cameras
    }


async def test_the_same_tenant_may_have_made_its_key_pair_anew(
    billing: Billing, vendor: Vendor
) -> None:
    first = await vendor.bundle(vendor.request())
    second = vendor.read(await vendor.bundle(vendor.request(key=key_pair(1))))
    assert second.instance_id != first.claims.aud
    assert second.license.cnf.jkt == key_pair(1).kid


async def test_a_former_request_is_not_answered(billing: Billing, vendor: Vendor) -> None:
    now = billing.clock.now
    await vendor.bundle(vendor.request())
    for more in ({}, {"key": key_pair(1)}):
        with pytest.raises(BundleRefusedError) as refused:
            await vendor.bundle(vendor.request(inventory(cameras=1), at=now - 60, **more))
        assert refused.value.reason == "RequestOutdated"
    assert len(billing.query("SELECT 1 FROM seats")) == 2
    await vendor.bundle(vendor.request(inventory(cameras=1), at=now - 60), replace_instance=True)
    assert len(billing.query("SELECT 1 FROM seats")) == 1


async def test_a_revocation_travels_in_the_next_bundle(billing: Billing, vendor: Vendor) -> None:
    request = vendor.request()
    before = vendor.read(await vendor.bundle(request))
    assert before.content.revocations is None
    async with billing.admin() as admin:
        await admin.revoke(CUSTOMER, camera_id="cam-1", reason="stolen")
    found = vendor.read(await vendor.bundle(request))
    assert found.content.revocations is not None
    listed = verify(
        found.content.revocations, RevocationsClaims, found.key_set.keys, now=billing.clock.now
    )
    assert [each.subject for each in listed.entries] == ["cam-1"]
    assert listed.exp == found.license.exp
    assert [each.status for each in found.content.cameras] == ["refused", "issued"]
    assert (await vendor.bundle(request)).new is False


async def test_a_bundle_carries_the_newest_keys(billing: Billing, vendor: Vendor) -> None:
    request = vendor.request()
    first = vendor.read(await vendor.bundle(request))
    root = (billing.directory / "root" / "root.pem").read_bytes()
    make_signing_keys(billing.directory / "keys", root)
    vendor.context.keyring._checked = float("-inf")  # it looks every ten seconds
    second = vendor.read(await vendor.bundle(request))
    assert second.key_set.number == first.key_set.number + 1
    assert second.claims.bundle_sequence > first.claims.bundle_sequence
    # The old documents stay: their key is still in the set.
    assert second.content.license == first.content.license


async def test_a_site_that_had_a_line_keeps_its_instance(billing: Billing) -> None:
    end = await contract(billing, days=200)
    site = await billing.site(key=key_pair())
    await site.inventory([device(1)], [camera(1), camera(2)])
    async with vendor_of(billing) as vendor:
        found = vendor.read(await vendor.bundle(vendor.request()))
    assert found.instance_id == site.instance_id
    assert found.license.exp == end
    # A credential that still spoke for it would cut its licenses to 45 days.
    assert (await site.tokens()).status_code == 401


async def test_licenses_over_the_line_are_as_short_as_ever(billing: Billing) -> None:
    await contract(billing, days=200)
    site = await billing.site()
    answer = await site.inventory([device(1)], [camera(1)])
    claims = jwt.decode(answer["license"], options={"verify_signature": False})
    assert claims["exp"] == claims["iat"] + 45 * DAY
    assert claims["refreshAfter"] == 3600


def run(
    api: BillingApi, *arguments: str, stdin: str = "", failpoint: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return programs.run(
        "brinkbyte.billing",
        *("admin", "bundle", *arguments),
        environment=source_environment({**api.environment, "BRINKBYTE_FAILPOINT": failpoint}),
        stdin=stdin,
    )


def test_the_command_line_answers_a_file_with_a_file(
    billing_api: BillingApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, out = tmp_path / "request.json", tmp_path / "bundle.json"
    now = int(datetime.now(UTC).timestamp())
    text = request_text(inventory(), now=now)
    asked.write_text(text)
    for name, value in billing_api.environment.items():
        monkeypatch.setenv(name, value)

    def refusal(*arguments: str, stdin: str = text) -> str:
        """Run the command here, which is quicker; return why it refuses."""
        words = ["billing", "admin", "bundle", "--request", "-", "-o", str(out), *arguments]
        result = CliRunner().invoke(build_app(words), words, input=stdin)
        assert result.exit_code == 1
        assert not out.exists()
        return result.output

    broken = json.loads(text)
    broken["inventory"] = broken["inventory"][:-4]
    assert "Malformed" in refusal(stdin=json.dumps(broken))
    assert "CustomerMismatch" in refusal("--customer", "other")
    assert "is not a day" in refusal("--until", "tomorrow")
    assert "NoContractEnd" in refusal()
    until = datetime.fromtimestamp(now + 90 * DAY, UTC).strftime("%Y-%m-%d")
    # Killed before its end it has done nothing, and the next try does all of it.
    wanted = ("--request", str(asked), "--until", until)
    killed = run(billing_api, *wanted, "-o", str(out), failpoint="bundle.before_commit")
    assert killed.returncode < 0
    assert not out.exists()
    done = run(billing_api, *wanted, "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert "2 of 2 cameras licensed" in done.stdout
    found = read_bundle(out.read_text(), load_roots(billing_api.roots.read_bytes()), now=now)
    end = datetime.fromtimestamp(found.license.exp, UTC)
    assert end.strftime("%H:%M") == "00:00"
    again = run(billing_api, "--request", "-", "--until", until, "-o", "-", stdin=text)
    assert again.stdout == out.read_text()
    assert "the same bundle as before" in again.stderr
