"""The license endpoints, and how documents come into force."""

from __future__ import annotations

import json
import time

import pytest

from brinkbyte.license.claims import CameraMode, TokenKind
from brinkbyte.license.keys import SigningKey, sign_key_set
from brinkbyte.license.seats import Seat
from brinkbyte.license.tokens import sign
from brinkbyte.store import following
from brinkbyte.store.licenses import set_config
from services.instance.test_telemetry import batch
from support.instance_api import SERVICE, Api, device, eventually, running_app
from support.instance_site import Site, documents, signed, times
from support.licensing import CUSTOMER, DAY, license_claims, vendor

pytestmark = pytest.mark.services


async def test_license_keeps_the_shape_that_existing_readers_know(api: Api) -> None:
    answer = (await api.http.get("/api/v1/license", headers=SERVICE)).json()
    assert answer["plan"] == "professional"
    assert answer["usage"]["devices"] == {"current": 4, "max": 50}
    assert answer["trial"]["isActive"] is False
    assert answer["trial"]["daysRemaining"] == 0
    assert (answer["mode"], answer["reason"]) == ("active", "LicenseValid")
    assert answer["features"]["dataRetentionDays"] == 365
    assert answer["limits"]["maxUsers"] == 10
    assert answer["upgradeUrl"].startswith("https://")


async def test_trial_counts_its_days(site: Site) -> None:
    now = int(time.time())
    site.install(trial={"isActive": True, "endsAt": now + 9 * DAY + 60}, plan="trial")
    async with running_app(site) as api:
        answer = (await api.http.get("/api/v1/license", headers=SERVICE)).json()
    assert answer["mode"] == "trial"
    assert answer["trial"] == {
        "isActive": True,
        "daysRemaining": 10,
        "endsAt": now + 9 * DAY + 60,
    }


async def test_without_a_license_three_devices_and_a_way_to_buy(site: Site) -> None:
    async with running_app(site) as api:
        answer = (await api.http.get("/api/v1/license", headers=SERVICE)).json()
        assert answer["plan"] == "unlicensed"
        assert answer["mode"] == "unlicensed"
        assert answer["usage"]["devices"] == {"current": 4, "max": 3}
        assert answer["features"]["dataRetentionDays"] == 7
        assert answer["upgradeUrl"] in answer["message"]


async def test_validate_says_what_a_camera_may_use(api: Api) -> None:
    path = "/api/v1/license/validate/cam-1"
    answer = (await api.http.post(path, headers=SERVICE)).json()
    assert answer["valid"] is True
    assert answer["tier"] == "memory"
    assert answer["hardwareId"] == "hw-1"
    assert answer["growthPacks"] == ["retail"]
    assert {"trolley", "person"} <= set(answer["models"])
    refused = (await api.http.post("/api/v1/license/validate/cam-9", headers=SERVICE)).json()
    assert refused["valid"] is False
    assert refused["reason"] == "CameraNotLicensed"
    assert refused["upgradeUrl"] in refused["message"]
    status = (await api.http.get("/api/v1/license/status", headers=SERVICE)).json()
    assert status["validations"]["total"] == 2
    await api.instance.license.audit.flush()
    async with api.instance.pool.connection() as connection:
        rows = await (
            await connection.execute(
                "SELECT subject, allowed, reason FROM license_validation_log "
                "WHERE subject_kind = 'camera' ORDER BY id"
            )
        ).fetchall()
    assert [tuple(row.values()) for row in rows] == [
        ("cam-1", True, "LicenseValid"),
        ("cam-9", False, "CameraNotLicensed"),
    ]


async def test_memory_answers_nearly_all_and_fast(api: Api) -> None:
    for _ in range(60):
        await api.http.post("/api/v1/license/validate/cam-1", headers=SERVICE)
    started = time.perf_counter()
    await api.http.post("/api/v1/license/validate/cam-2", headers=SERVICE)
    assert time.perf_counter() - started < 0.1
    status = (await api.http.get("/api/v1/license/status", headers=SERVICE)).json()
    assert status["validations"]["hitRate"] > 0.95


async def test_a_trial_seat_that_ended_allows_nothing(site: Site) -> None:
    past = int(time.time()) - 10
    site.install(seats=[Seat("cam-1", "hw-1", CameraMode.TRIAL, (), past)])
    async with running_app(site) as api:
        answer = (await api.http.post("/api/v1/license/validate/cam-1", headers=SERVICE)).json()
    assert (answer["valid"], answer["reason"]) == (False, "SeatEnded")


async def test_entitlements_of_tenant_and_camera(api: Api) -> None:
    tenant = (await api.http.get("/api/v1/entitlements", headers=SERVICE)).json()
    assert "trolley" in tenant["models"]
    assert tenant["quotas"] == {"vision.api_calls": 150_000}
    assert tenant["llm"] == ["analyst_seat_full", "automated_reports", "premium_connectors"]
    assert tenant["validForSeconds"] == 300
    query = {"camera_id": "cam-2"}
    camera = (await api.http.get("/api/v1/entitlements", headers=SERVICE, params=query)).json()
    assert "trolley" not in camera["models"]
    assert camera["hardwareId"] == "hw-2"


async def test_a_swapped_directory_is_in_force_without_a_restart(site: Site) -> None:
    site.install(sequence=7)
    async with running_app(site) as api:
        assert api.instance.license.policy().plan == "professional"
        site.install(sequence=8, plan="enterprise")
        await eventually(lambda: api.instance.license.policy().plan == "enterprise")
        site.install(sequence=6, plan="starter")
        await api.instance.license.save_if_needed()
        await api.instance.license.look_into_directory()
        assert api.instance.license.policy().plan == "enterprise"


async def test_documents_of_the_database_hold_when_the_directory_is_empty(site: Site) -> None:
    site.install()
    async with running_app(site) as api:
        assert api.instance.license.policy().decision.mode == "active"
    site.install(only=())
    async with running_app(site) as api:
        answer = (await api.http.get("/api/v1/license", headers=SERVICE)).json()
        assert answer["mode"] == "active"
        answer = (await api.http.post("/api/v1/license/validate/cam-1", headers=SERVICE)).json()
        assert answer["valid"] is True


def _forged_license(start: int) -> str:
    stranger = SigningKey.generate([TokenKind.LICENSE])
    return sign(license_claims(**times(start), licenseSequence=99, plan="forged"), stranger)


def _edited_license(files: dict[str, str]) -> str:
    head, _, tail = documents(sequence=99, plan="edited")["license.jwt"].split(".")
    return f"{head}.{files['license.jwt'].split('.')[1]}.{tail}"


async def test_bad_documents_are_refused_and_the_last_good_stays(site: Site) -> None:
    now = int(time.time()) - 30
    files = site.install(sequence=7)
    other_audience = signed(
        license_claims(**times(now), aud="inst-2", licenseSequence=50), TokenKind.LICENSE
    )
    other_customer = signed(
        license_claims(**times(now), customerId="other", licenseSequence=50), TokenKind.LICENSE
    )
    future = signed(license_claims(**times(now + 4000), licenseSequence=50), TokenKind.LICENSE)
    unlisted = signed(
        license_claims(**times(now), licenseSequence=50, revocationSequence=12), TokenKind.LICENSE
    )
    stranger = SigningKey.generate()
    foreign_keys = json.dumps(
        sign_key_set(stranger, [key.jwk for key in vendor().keys.values()], number=9, now=now)
    )
    cases = {
        "UnknownKey": {"license.jwt": _forged_license(now)},
        "BadSignature": {"license.jwt": _edited_license(files)},
        "WrongAudience": {"license.jwt": other_audience},
        "CustomerMismatch": {"license.jwt": other_customer},
        "NotYetValid": {"license.jwt": future},
        "RevocationListMissing": {"license.jwt": unlisted},
        "WrongType": {"seats.jws": files["license.jwt"]},
        "Malformed": {"revocations.jws": "garbage"},
        "UntrustedKeySet": {"jwks.json": foreign_keys},
    }
    async with running_app(site) as api:
        for reason, bad in cases.items():
            site.install(sequence=7, raw=bad)
            await eventually(
                lambda reason=reason: reason in {r.reason for r in api.instance.license.refused}
            )
            policy = api.instance.license.policy()
            assert (policy.decision.mode, policy.plan) == ("active", "professional")
        status = (await api.http.get("/api/v1/license/status", headers=SERVICE)).json()
        assert set(cases) <= {item["reason"] for item in status["refusedDocuments"]}
        await api.instance.license.audit.flush()
        async with api.instance.pool.connection() as connection:
            rows = await (
                await connection.execute(
                    "SELECT reason, count(*) AS times FROM license_validation_log "
                    "WHERE subject_kind = 'document' AND NOT allowed GROUP BY reason"
                )
            ).fetchall()
        assert {row["reason"] for row in rows} == set(cases)
        assert all(row["times"] == 1 for row in rows)


async def test_revocation_takes_the_license_away(site: Site) -> None:
    site.install(sequence=7)
    async with running_app(site) as api:
        site.install(sequence=8, entries=[{"kind": "license", "subject": "acme", "upTo": 8}])
        await eventually(lambda: api.instance.license.policy().decision.mode == "revoked")
        refused = (await api.http.post("/api/v1/license/validate/cam-4", headers=SERVICE)).json()
        assert (refused["valid"], refused["reason"]) == (False, "LicenseRevoked")
        # One of the three longest-registered devices goes on with the base models.
        base = (await api.http.post("/api/v1/license/validate/cam-1", headers=SERVICE)).json()
        assert base["valid"] is True
        assert "trolley" not in base["models"]
        assert "person" in base["models"]


async def test_grace_then_expired(site: Site) -> None:
    begin = int(time.time()) - 46 * DAY
    site.install(start=begin)
    async with running_app(site) as api:
        assert api.instance.license.policy().decision.mode == "grace"
        answer = (await api.http.post("/api/v1/license/validate/cam-4", headers=SERVICE)).json()
        assert answer["valid"] is True
    site.install(sequence=9, start=int(time.time()) - 60 * DAY)
    async with running_app(site) as api:
        answer = (await api.http.get("/api/v1/license", headers=SERVICE)).json()
        assert (answer["mode"], answer["plan"]) == ("expired", "unlicensed")
        refused = (await api.http.post("/api/v1/license/validate/cam-4", headers=SERVICE)).json()
        assert refused["reason"] == "LicenseExpired"


async def test_suspended(site: Site) -> None:
    site.install(subscription={"status": "suspended", "currentPeriodEnd": None})
    async with running_app(site) as api:
        answer = (await api.http.get("/api/v1/license", headers=SERVICE)).json()
    assert (answer["mode"], answer["reason"]) == ("suspended", "SubscriptionSuspended")


async def test_enrollment_after_start_brings_the_license_in(site: Site) -> None:
    site.install()
    identity = site.root / "identity" / "instance-id"
    text = identity.read_text()
    identity.resolve().write_text("")
    async with running_app(site) as api:
        assert api.instance.license.policy().decision.mode == "unlicensed"
        assert {item.reason for item in api.instance.license.refused} == {"NotEnrolled"}
        identity.resolve().write_text(text)
        await eventually(lambda: api.instance.license.policy().decision.mode == "active")


async def test_what_was_refused_for_a_time_is_taken_in_when_the_cause_is_gone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "REFUSED_SECONDS", 0.2)
    async with running_app(site) as api:
        license_service = api.instance.license
        license_service.clock.wall = lambda: time.time() - 7200  # a clock that is not set yet
        site.install()
        await eventually(lambda: license_service.refused)
        assert license_service.policy().decision.mode == "unlicensed"
        license_service.clock.wall = time.time
        await eventually(lambda: license_service.policy().decision.mode == "active")
        await eventually(lambda: license_service.documents._again == float("inf"))


async def test_what_came_before_its_instance_id_is_taken_in_with_it(site: Site) -> None:
    identity = (site.root / "identity" / "instance-id").resolve()
    text = identity.read_text()
    identity.write_text("01890000-0000-7000-8000-00000000000e")
    async with running_app(site) as api:
        site.install()
        await eventually(lambda: api.instance.license.refused)
        assert {item.reason for item in api.instance.license.refused} == {"WrongAudience"}
        identity.write_text(text)
        await eventually(lambda: api.instance.license.policy().decision.mode == "active")


async def test_state_of_a_later_release_is_read_without_what_it_added(site: Site) -> None:
    site.install()
    async with running_app(site) as api, api.instance.pool.connection() as connection:
        clock = {"signedTime": int(time.time()), "runningSeconds": 5, "added": 1}
        await set_config(connection, CUSTOMER, "clock", clock)
        await set_config(connection, CUSTOMER, "retention", {"days": 30, "added": {"x": 1}})
    async with running_app(site) as api:
        assert api.instance.license.policy().decision.mode == "active"
        await api.instance.telemetry.maintain()
        answer = await api.http.post(
            "/api/v1/telemetry", headers=device("hw-1"), json=batch(count=1)
        )
        assert answer.status_code == 201


async def test_a_new_key_set_drops_what_its_keys_do_not_vouch_for(site: Site) -> None:
    site.install(sequence=7)
    now = int(time.time()) - 30
    replacement = SigningKey.generate([TokenKind.LICENSE])
    kept = [key.jwk for kind, key in vendor().keys.items() if kind is not TokenKind.LICENSE]
    key_set = json.dumps(sign_key_set(vendor().root, [*kept, replacement.jwk], number=2, now=now))
    async with running_app(site) as api:
        site.install(sequence=7, raw={"jwks.json": key_set})
        await eventually(lambda: api.instance.license.policy().decision.mode == "unlicensed")
        fresh = sign(license_claims(**times(now), licenseSequence=8), replacement)
        site.install(sequence=7, raw={"jwks.json": key_set, "license.jwt": fresh})
        await eventually(lambda: api.instance.license.policy().decision.mode == "active")


async def test_device_heartbeat_makes_it_online(api: Api) -> None:
    answer = await api.http.post("/api/v1/license/heartbeat", headers=device("hw-2"))
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"hardwareId": "hw-2", "mode": "active", "onlineSeconds": 90}
