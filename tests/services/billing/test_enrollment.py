"""Enrollment, credentials, key pairs and the end of an instance."""

from __future__ import annotations

import asyncio
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from brinkbyte.kit.errors import PermanentError
from brinkbyte.license.claims import CameraClaims, LicenseClaims
from brinkbyte.license.keys import load_roots, public_jwk, verify_key_set
from brinkbyte.license.tokens import verify
from services.billing.conftest import Billing
from services.billing.site import Site, camera, device, key_pair, reason
from support.billing import CUSTOMER, DEFAULT_TERMS


@pytest.fixture
async def customer(billing: Billing) -> Billing:
    await billing.customer(CUSTOMER, DEFAULT_TERMS)
    return billing


def new_site(billing: Billing, **more: str) -> Site:
    return Site(billing.http, CUSTOMER, billing.clock, **more)


async def test_token_is_exchanged_for_instance_credential_and_verifiable_keys(
    customer: Billing,
) -> None:
    site = new_site(customer)
    answer = await site.enroll(await customer.token())
    assert answer.status_code == 201
    body = answer.json()
    assert body["customerId"] == CUSTOMER
    assert body["credential"].startswith("bbi_")
    assert body["credentialExpiresAt"] > customer.clock.now + 30 * 86_400
    roots = load_roots((customer.directory / "root" / "roots.json").read_bytes())
    keys = verify_key_set(jwt.api_jws.json.dumps(body["keySet"]), roots, now=int(time.time()))
    assert keys.number == 1
    assert (await site.tokens()).status_code == 200


async def test_same_token_and_key_again_is_the_same_instance_with_a_fresh_credential(
    customer: Billing,
) -> None:
    site, token = new_site(customer), await customer.token()
    first = (await site.enroll(token)).json()
    second = (await site.enroll(token)).json()
    assert second["instanceId"] == first["instanceId"]
    assert second["credential"] != first["credential"]
    for credential in (first["credential"], second["credential"]):
        site.credential = credential
        assert (await site.tokens()).status_code == 200
    assert len(customer.query("SELECT 1 FROM instances")) == 1
    # As in a rotation: the one of before ends within a day, and the log tells of it.
    actions = customer.query("SELECT action FROM audit_log ORDER BY id")
    assert [row["action"] for row in actions][-1] == "enrollment.repeated"
    customer.clock.advance(hours=24, seconds=1)
    site.credential = first["credential"]
    assert reason(await site.tokens()) == (401, "CredentialExpired")
    site.credential = second["credential"]
    assert (await site.tokens()).status_code == 200


async def test_same_proof_again_makes_nothing_new(customer: Billing) -> None:
    site, token = new_site(customer), await customer.token()
    body = site.enrollment(token)
    answers = await asyncio.gather(
        *(customer.http.post("/api/v1/enrollments", json=body) for _ in range(4))
    )
    assert {a.status_code for a in answers} == {201}
    first = answers[0].json()
    keys = ("instanceId", "credential", "credentialExpiresAt")
    assert {tuple(a.json()[k] for k in keys) for a in answers} == {tuple(first[k] for k in keys)}
    assert len(customer.query("SELECT 1 FROM credentials WHERE kind = 'instance'")) == 1
    # What was rotated away stays so, whoever sends the old proof again.
    site.credential = first["credential"]
    await site.rotate()
    replayed = (await customer.http.post("/api/v1/enrollments", json=body)).json()
    assert replayed["credential"] == first["credential"]
    assert replayed["credentialExpiresAt"] < first["credentialExpiresAt"]
    assert len(customer.query("SELECT 1 FROM credentials WHERE kind = 'instance'")) == 2


async def test_one_token_and_two_keys_at_once_make_one_instance(customer: Billing) -> None:
    token = await customer.token()
    sites = [
        Site(customer.http, CUSTOMER, customer.clock, key=key_pair(number)) for number in range(4)
    ]
    answers = await asyncio.gather(*(site.enroll(token) for site in sites))
    assert sorted(a.status_code for a in answers) == [201, 409, 409, 409]
    assert {reason(a)[1] for a in answers if a.status_code == 409} == {"EnrollmentUsed"}
    assert len(customer.query("SELECT 1 FROM instances")) == 1
    assert len(customer.query("SELECT 1 FROM credentials WHERE kind = 'instance'")) == 1


async def test_revoked_credentials_leave_the_instance_and_its_seats(
    customer: Billing,
) -> None:
    site, token = new_site(customer), await customer.token()
    await site.enroll(token)
    before = await site.inventory([device(1)], [camera(1)])
    async with customer.admin() as admin:
        assert await admin.revoke_credentials(site.instance_id) == 2
        assert await admin.revoke_credentials(site.instance_id) == 0
        with pytest.raises(PermanentError, match="no instance"):
            await admin.revoke_credentials("inst-x")
    assert reason(await site.tokens()) == (401, "CredentialRevoked")
    # Nor does the token that made it make another one.
    assert reason(await site.enroll(token)) == (401, "EnrollmentInvalid")
    assert customer.query("SELECT ended_at FROM instances") == [{"ended_at": None}]
    again = new_site(customer)
    await again.enroll(await customer.token())
    after = await again.inventory([device(1)], [camera(1)])
    assert after["cameras"][0]["seat"] == before["cameras"][0]["seat"]
    rows = customer.query("SELECT action, subject FROM audit_log WHERE actor = 'cli' ORDER BY id")
    assert ("credential.revoked", site.instance_id) in [(r["action"], r["subject"]) for r in rows]


async def test_revoked_enrollment_token_enrolls_nobody(customer: Billing) -> None:
    token = await customer.token()
    async with customer.admin() as admin:
        (listed,) = await admin.list_enrollments(CUSTOMER)
        await admin.revoke_enrollment(CUSTOMER, listed["credential_id"])
        with pytest.raises(PermanentError, match="revoked already"):
            await admin.revoke_enrollment(CUSTOMER, listed["credential_id"])
    assert reason(await new_site(customer).enroll(token)) == (401, "EnrollmentInvalid")
    rows = customer.query("SELECT subject FROM audit_log WHERE action = 'enrollment.revoked'")
    assert [row["subject"] for row in rows] == [str(listed["credential_id"])]


async def test_same_token_with_another_key_is_used(customer: Billing) -> None:
    token = await customer.token()
    await new_site(customer).enroll(token)
    other = Site(customer.http, CUSTOMER, customer.clock, key=key_pair(1))
    assert reason(await other.enroll(token)) == (409, "EnrollmentUsed")


async def test_unknown_token_is_refused(customer: Billing) -> None:
    answer = await new_site(customer).enroll("bbe_" + "x" * 43)
    assert reason(answer) == (401, "EnrollmentInvalid")


async def test_instance_credential_is_no_enrollment_token(acme: Site) -> None:
    assert reason(await acme.enroll(acme.credential)) == (401, "EnrollmentInvalid")


async def test_token_ends_after_24_hours_also_for_a_repeat(customer: Billing) -> None:
    site, token = new_site(customer), await customer.token()
    await site.enroll(token)
    customer.clock.advance(hours=24, seconds=1)
    assert reason(await site.enroll(token)) == (410, "EnrollmentExpired")


async def test_token_of_another_customer_is_refused(customer: Billing) -> None:
    await customer.customer("other")
    site = new_site(customer)
    answer = await site.enroll(await customer.token("other"))
    assert reason(answer) == (403, "CustomerMismatch")


@pytest.mark.parametrize(
    "change",
    [
        {"sub": "0" * 64},
        {"iat": 1_000, "exp": 2_000},
        {"iat": 9_999_999_999, "exp": 9_999_999_999},
        {"exp": 9_999_999_999},
        {"jti": None},
        {"iat": None},
        {"iat": "now"},
    ],
)
async def test_proof_must_be_for_this_token_and_now(
    customer: Billing, change: dict[str, object]
) -> None:
    site, token = new_site(customer), await customer.token()
    body = site.enrollment(token)
    subject = change.pop(
        "sub", jwt.decode(body["proof"], options={"verify_signature": False})["sub"]
    )
    body["proof"] = site.proof(str(subject), **change)
    answer = await customer.http.post("/api/v1/enrollments", json=body)
    assert reason(answer) == (401, "EnrollmentInvalid")
    assert (await site.enroll(token)).status_code == 201


@pytest.mark.parametrize("proof", ["", "x", "a.b.c", "{}", "é.é.é"])
async def test_garbage_proof_is_refused(customer: Billing, proof: str) -> None:
    answer = await new_site(customer).enroll(await customer.token(), proof=proof)
    assert reason(answer) == (401, "EnrollmentInvalid")


async def test_proof_by_another_key_is_refused(customer: Billing) -> None:
    site, token = new_site(customer), await customer.token()
    other = key_pair(1).jwk.model_dump(mode="json")
    assert reason(await site.enroll(token, publicKey=other)) == (401, "EnrollmentInvalid")


async def test_weak_key_is_refused(customer: Billing) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    jwk = public_jwk(weak.public_key()).model_dump(mode="json")
    answer = await new_site(customer).enroll(await customer.token(), publicKey=jwk)
    assert reason(answer) == (422, "WeakKey")


@pytest.mark.parametrize("modulus", ["A", "AAAA", "_" * 342])
async def test_broken_key_is_refused(customer: Billing, modulus: str) -> None:
    jwk = {**key_pair().jwk.model_dump(mode="json"), "n": modulus}
    answer = await new_site(customer).enroll(await customer.token(), publicKey=jwk)
    assert answer.status_code == 422


async def test_second_live_tenant_is_refused_and_changes_nothing(
    acme: Site, billing: Billing
) -> None:
    other = Site(
        billing.http, CUSTOMER, billing.clock, key=key_pair(1), cluster="cluster-2", uid="u2"
    )
    token = await billing.token()
    assert reason(await other.enroll(token)) == (409, "InstanceExists")
    assert (await acme.tokens()).status_code == 200
    # Once the cause is gone the same token is still good.
    assert (await acme.call("DELETE", "/api/v1/instance")).status_code == 204
    assert (await other.enroll(token)).status_code == 201


@pytest.mark.parametrize("change", [{"name": "new.name"}, {"uid": "uid-created-again"}])
async def test_same_cluster_and_tenant_enrolls_again_and_ends_the_previous(
    acme: Site, billing: Billing, change: dict[str, str]
) -> None:
    again = Site(billing.http, CUSTOMER, billing.clock, key=key_pair(1), **change)
    assert (await again.enroll(await billing.token())).status_code == 201
    assert again.instance_id != acme.instance_id
    assert reason(await acme.tokens()) == (403, "InstanceEnded")
    assert (await again.tokens()).status_code == 200


async def test_other_tenant_in_the_same_cluster_is_refused(acme: Site, billing: Billing) -> None:
    other = Site(billing.http, CUSTOMER, billing.clock, name="b.other", uid="uid-other")
    assert reason(await other.enroll(await billing.token())) == (409, "InstanceExists")


async def test_replacing_token_ends_the_instance_elsewhere(acme: Site, billing: Billing) -> None:
    moved = Site(billing.http, CUSTOMER, billing.clock, key=key_pair(1), cluster="c2", uid="u2")
    assert (await moved.enroll(await billing.token(replace=True))).status_code == 201
    assert reason(await acme.tokens()) == (403, "InstanceEnded")


async def test_seats_stay_when_the_instance_enrolls_again(acme: Site, billing: Billing) -> None:
    before = await acme.inventory([device(1)], [camera(1)])
    again = Site(billing.http, CUSTOMER, billing.clock, key=key_pair(1))
    await again.enroll(await billing.token())
    after = await again.inventory([device(1)], [camera(1)])
    assert after["cameras"][0]["seat"] == before["cameras"][0]["seat"]
    token = verify(after["cameras"][0]["token"], CameraClaims, billing.keys, now=billing.clock.now)
    assert token.aud == again.instance_id
    assert token.cnf.jkt == again.key.kid


async def test_rotated_credential_overlaps_for_24_hours(acme: Site, billing: Billing) -> None:
    old = acme.credential
    answer = await acme.call("POST", "/api/v1/instance/credential")
    assert answer.status_code == 200
    new = answer.json()["credential"]
    billing.clock.advance(hours=23, seconds=3500)
    for credential in (old, new):
        acme.credential = credential
        assert (await acme.tokens()).status_code == 200
    billing.clock.advance(seconds=200)
    acme.credential = old
    assert reason(await acme.tokens()) == (401, "CredentialExpired")
    acme.credential = new
    assert (await acme.tokens()).status_code == 200


async def test_new_key_pair_cuts_tokens_anew(acme: Site, billing: Billing) -> None:
    first = await acme.inventory([device(1)], [camera(1)])
    old = acme.key
    acme.key = key_pair(1)
    body = {
        "publicKey": acme.key.jwk.model_dump(mode="json"),
        "proof": acme.proof(acme.instance_id),
    }
    for _ in range(2):
        answer = await acme.call("PUT", "/api/v1/instance/key", json=body)
        assert answer.status_code == 204
    second = await acme.inventory([device(1)], [camera(1)])
    claims = verify(second["license"], LicenseClaims, billing.keys, now=billing.clock.now)
    assert claims.cnf.jkt == acme.key.kid
    assert second["cameras"][0]["status"] == "issued"
    assert second["cameras"][0]["seat"] == first["cameras"][0]["seat"]
    # What the old key pair sealed is still taken.
    await acme.report([acme.event()], billing.keys, key=old)
    await acme.report([acme.event()], billing.keys)


async def test_new_key_pair_needs_a_proof_for_this_instance(acme: Site) -> None:
    acme.key = key_pair(1)
    jwk = acme.key.jwk.model_dump(mode="json")
    answer = await acme.call(
        "PUT", "/api/v1/instance/key", json={"publicKey": jwk, "proof": acme.proof("other")}
    )
    assert reason(answer) == (401, "ProofInvalid")


async def test_deleting_frees_everything_and_can_be_repeated(acme: Site, billing: Billing) -> None:
    await acme.inventory([device(1)], [camera(1), camera(2)])
    for _ in range(2):
        assert (await acme.call("DELETE", "/api/v1/instance")).status_code == 204
    for table in ("devices", "seats", "camera_requests"):
        assert billing.query(f"SELECT 1 FROM {table}") == []
    assert reason(await acme.tokens()) == (403, "InstanceEnded")
    assert [r["action"] for r in billing.query("SELECT action FROM seat_history ORDER BY id")] == [
        "taken",
        "taken",
        "freed",
        "freed",
    ]
    fresh = await billing.site(cluster="cluster-2", uid="u2", name="n.t2")
    answer = await fresh.inventory([device(9)], [camera(n, hardwareId="hw-9") for n in range(10)])
    assert {c["status"] for c in answer["cameras"]} == {"issued"}


async def test_no_secret_is_stored_or_logged(
    acme: Site, billing: Billing, capfd: pytest.CaptureFixture[str]
) -> None:
    token = await billing.token()
    await acme.call("POST", "/api/v1/instance/credential")
    tables = billing.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    stored = str([billing.query(f"SELECT * FROM {t['tablename']}") for t in tables])
    logged = "".join(capfd.readouterr())
    for secret in (token, acme.credential):
        assert secret not in stored
        assert secret[4:] not in stored
        assert secret not in logged


@pytest.mark.parametrize("header", ["", "Basic x", "Bearer", "Bearer ", "Bearer " + "x" * 300, "é"])
async def test_call_without_a_good_credential_is_refused(billing: Billing, header: str) -> None:
    answer = await billing.http.get(
        "/api/v1/instance/tokens", headers={"Authorization": header.encode()}
    )
    assert reason(answer) == (401, "Unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_instance_credential_cannot_do_the_vendors_work(acme: Site) -> None:
    answer = await acme.call("POST", "/api/customers", json={"customerId": "x", "name": "x"})
    assert reason(answer) == (403, "MissingScope")


async def test_enrollment_token_opens_nothing_else(billing: Billing) -> None:
    await billing.customer()
    headers = {"Authorization": f"Bearer {await billing.token()}"}
    answer = await billing.http.get("/api/v1/instance/tokens", headers=headers)
    assert reason(answer) == (403, "MissingScope")


async def test_freed_instance_loses_its_credentials_at_once(acme: Site, billing: Billing) -> None:
    await acme.inventory([device(1)], [camera(1)])
    async with billing.admin() as admin:
        assert await admin.free_instance(acme.instance_id)
        assert not await admin.free_instance(acme.instance_id)
    assert reason(await acme.tokens()) == (401, "CredentialRevoked")
    assert billing.query("SELECT 1 FROM seats") == []
