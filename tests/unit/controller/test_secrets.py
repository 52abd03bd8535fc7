"""Generated credentials: validated, reused, made anew when somebody changed them."""

from __future__ import annotations

import base64
import copy
import itertools
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from brinkbyte.controller.children import secrets
from brinkbyte.controller.identity import Identity, credential_due, proof
from brinkbyte.kit.canonical import sha256_hex
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.keys import SigningKey
from brinkbyte.resources import names
from support.licensing import DAY, NOW, vendor
from support.plans import camera, device, plan, tenant

OWNER = tenant()


def counter() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"token-{next(numbers)}"


def stored(made: secrets.Generated, component: str, suffix: str) -> dict[str, Any]:
    return secrets.tenant_secret(OWNER, component, suffix, made.data, hashed=True)


def test_values_are_made_once_and_then_reused() -> None:
    token = counter()
    first = secrets.postgres_credential(None, plan(), token)
    assert first.renewed
    assert first.data[names.POSTGRES_DSN_KEY] == (
        "postgresql://brinkbyte:token-1@acme-btn-postgres.customer.svc:5432/brinkbyte"
    )
    live = stored(first, "postgres", names.POSTGRES_SUFFIX)
    again = secrets.postgres_credential(live, plan(), token)
    assert not again.renewed
    assert again == secrets.Generated(first.data, renewed=False)
    assert again.hash == first.hash


@pytest.mark.parametrize("damage", ["edited", "removed", "not text", "hash removed", "all"])
def test_a_changed_secret_is_made_anew_as_a_whole(damage: str) -> None:
    token = counter()
    first = secrets.redis_credential(None, plan(), token)
    live = copy.deepcopy(stored(first, "redis", names.REDIS_SUFFIX))
    if damage == "edited":
        live["data"][names.REDIS_PASSWORD_KEY] = base64.b64encode(b"chosen").decode()
    elif damage == "removed":
        del live["data"][names.REDIS_URL_KEY]
    elif damage == "not text":
        live["data"][names.REDIS_URL_KEY] = base64.b64encode(b"\xff\xfe").decode()
    elif damage == "hash removed":
        del live["metadata"]["annotations"]
    else:
        live["data"] = None
    made = secrets.redis_credential(live, plan(), token)
    assert made.renewed
    assert not set(made.data.values()) & set(first.data.values())
    assert made.hash != first.hash


def test_every_credential_has_its_own_random_values() -> None:
    made = [
        secrets.triton_credential(None),
        secrets.access_credential(None),
        secrets.device_credential(None),
    ]
    values = [value for each in made for value in each.data.values()]
    assert len(set(values)) == 4
    assert all(len(value) >= 43 for value in values)


def test_what_belongs_to_the_data_has_no_owner_and_the_rest_goes_with_the_tenant() -> None:
    for component in ("postgres", secrets.ACCESS):
        kept = secrets.tenant_secret(OWNER, component, "-x", {"a": "b"})
        assert "ownerReferences" not in kept["metadata"]
        assert kept["metadata"]["labels"][names.LABEL_CUSTOMER] == "acme-pty"
    goes = secrets.tenant_secret(OWNER, secrets.LICENSE, "-x", {"a": "b"})
    assert goes["metadata"]["ownerReferences"] == [OWNER.owner_reference()]


def test_secrets_of_members_name_their_tenant() -> None:
    made = secrets.member_secret(camera(), secrets.CAMERA_LICENSE, "x", {"a": "b"})
    labels = made["metadata"]["labels"]
    assert labels[names.LABEL_TENANT] == "acme"
    assert labels[names.LABEL_OWNER_KIND] == "CameraLicense"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-cam-1"


def test_the_list_of_devices_holds_hashes_sorted_by_hardware() -> None:
    later = device({"name": "b"}, hardwareId="SN-1")
    earlier = device({"name": "a"}, hardwareId="SN-0", managementTier="managed")
    found = json.loads(secrets.devices_document([(later, "t1"), (earlier, "t0")]))
    assert [each["hardwareId"] for each in found] == ["SN-0", "SN-1"]
    assert found[0]["tokenSha256"] == sha256_hex(b"t0")
    assert found[0]["managementTier"] == "managed"


def identity(**over: Any) -> Identity:
    return Identity(
        **{
            "uid": "u",
            "namespace": "ns",
            "name": "acme",
            "customer_id": "acme-pty",
            "private_key": vendor().instance_key.to_pem().decode(),
            "instance_id": "inst-1",
            "credential": "bbi_secret",
            "credential_expires_at": NOW + 30 * DAY,
            "credential_issued_at": NOW,
            "billing_url": "https://b.example.com",
            **over,
        }
    )


def test_a_record_survives_its_secret() -> None:
    before = identity(ca="PEM", token_hash="h", key_set="{}", ending=True)
    assert Identity.from_data(before.to_data()) == before
    assert "bbi_secret" not in repr(before)


@pytest.mark.parametrize("broken", [{"private_key": "nonsense"}, {"uid": ""}, {"name": ""}])
def test_a_damaged_record_is_none(broken: dict[str, str]) -> None:
    assert Identity.from_data(identity(**broken).to_data()) is None


def test_the_instance_sees_its_identity_and_not_the_enrollment() -> None:
    data = identity(ca="PEM").to_identity_secret("fingerprint")
    assert data.keys() == {
        names.INSTANCE_ID_KEY,
        names.CREDENTIAL_KEY,
        names.PRIVATE_KEY_KEY,
        names.BILLING_URL_KEY,
        names.BILLING_CA_KEY,
        names.CLUSTER_FINGERPRINT_KEY,
    }


@pytest.mark.parametrize(("days", "due"), [(0, False), (19, False), (21, True), (40, True)])
def test_a_credential_is_renewed_in_the_last_third_of_its_life(days: int, due: bool) -> None:
    assert credential_due(identity(), NOW + days * DAY) is due


def test_a_credential_of_unknown_age_is_renewed() -> None:
    assert credential_due(identity(credential_expires_at=0, credential_issued_at=0), NOW)


def test_a_proof_names_its_subject_and_key() -> None:

    key: SigningKey = vendor().instance_key
    token = proof(key, "abc", now=NOW)
    header = jwt.get_unverified_header(token)
    assert header["typ"] == TokenKind.ENROLLMENT.typ
    assert header["kid"] == key.kid
    claims = jwt.decode(
        token,
        key.jwk.public_key,
        algorithms=["RS256"],
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims["sub"] == "abc"
    assert claims["exp"] - claims["iat"] <= DAY
