"""Bundles: all of it or nothing, from the vendor, for this site, and never an older one."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.kit.errors import PermanentError
from brinkbyte.license.bundle import (
    MAX_BUNDLE_BYTES,
    check_cameras,
    check_for,
    check_newer,
    content_bytes,
    read_bundle,
    write_bundle,
)
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.keys import SigningKey, sign_key_set
from brinkbyte.license.packing import pack
from brinkbyte.license.tokens import sign
from support.bundles import bundle_claims, bundle_text, camera_token, content
from support.licensing import (
    CUSTOMER,
    DAY,
    NOW,
    license_claims,
    revocations_claims,
    seats_claims,
    vendor,
)

pytestmark = pytest.mark.unit
V = vendor()
TEXT = bundle_text()
OTHER = bundle_text(content(server_time=NOW + 1), bundleSequence=6)


def changed(**members: Any) -> str:
    return json.dumps({**json.loads(TEXT), **members})


def license_token(**over: Any) -> str:
    return sign(license_claims(**over), V.keys[TokenKind.LICENSE])


def foreign_keys() -> dict[str, Any]:
    root = SigningKey.generate()
    return sign_key_set(root, [key.jwk for key in V.keys.values()], number=1, now=NOW)


def signed(data: bytes) -> str:
    """Return a bundle of the vendor with any content at all."""
    manifest = sign(bundle_claims(data), V.keys[TokenKind.LICENSE])
    return write_bundle(manifest, data, json.loads(V.key_set()))


def test_a_bundle_brings_everything() -> None:
    found = read_bundle(TEXT, V.roots, now=NOW)
    assert found.license.customer_id == CUSTOMER
    assert found.key_set.number == 1
    assert found.content == content()
    assert check_cameras(found, now=NOW) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Malformed"),
        ("{}", "Malformed"),
        ("[1]", "Malformed"),
        ("[" * 100_000, "Malformed"),
        (TEXT[: len(TEXT) // 2], "Malformed"),
        ("x" * (MAX_BUNDLE_BYTES + 1), "Malformed"),
        (changed(manifest=["x"]), "Malformed"),
        (changed(content=None), "Malformed"),
        (changed(content="!"), "Malformed"),
        (changed(content=json.loads(TEXT)["content"][:-9]), "Malformed"),
        (changed(content=json.loads(OTHER)["content"]), "ContentChanged"),
        (changed(manifest=json.loads(OTHER)["manifest"]), "ContentChanged"),
        (changed(content=pack(b"{}")), "ContentChanged"),
        (changed(keySet=None), "MalformedKeySet"),
        (changed(keySet=foreign_keys()), "UntrustedKeySet"),
        (changed(keySet=json.loads(V.key_set(number=2))), "ContentChanged"),
        (changed(manifest="a.b.c"), "Malformed"),
        (changed(manifest=license_token()), "WrongType"),
        (bundle_text(key=SigningKey.generate([TokenKind.LICENSE])), "UnknownKey"),
        (bundle_text(exp=NOW), "Expired"),
        (bundle_text(iat=NOW + DAY), "NotYetValid"),
        (signed(b"[]"), "Malformed"),
        (signed(b"{"), "Malformed"),
        (bundle_text(content(license=None)), "Malformed"),
        (bundle_text(content(seats=None)), "Malformed"),
        (bundle_text(content(license=license_token(customerId="other"))), "CustomerMismatch"),
        (bundle_text(content(license=license_token(aud="inst-2"))), "WrongAudience"),
        (bundle_text(content(license=license_token(cnf={"jkt": "x" * 43}))), "WrongKey"),
        (
            bundle_text(content(license=license_token(revocationSequence=3))),
            "RevocationListMissing",
        ),
        (bundle_text(content(seats=license_token())), "WrongType"),
        (
            bundle_text(content(seats=sign(seats_claims([], count=9), V.keys[TokenKind.SEATS]))),
            "InvalidClaims",
        ),
        (bundle_text(content(revocations="x.y.z")), "Malformed"),
    ],
)
def test_a_bad_bundle_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(PermanentError) as refused:
        read_bundle(text, V.roots, now=NOW)
    assert refused.value.reason == reason


def test_only_a_key_that_signs_licenses_signs_a_bundle() -> None:
    data = content_bytes(content())
    with pytest.raises(ValueError, match="does not sign"):
        sign(bundle_claims(data), V.keys[TokenKind.CAMERA])
    # What such a key would have signed verifies nothing.
    camera_key = V.keys[TokenKind.CAMERA]
    forged = SigningKey(camera_key.private_key, (TokenKind.LICENSE,))
    with pytest.raises(PermanentError) as refused:
        read_bundle(bundle_text(key=forged), V.roots, now=NOW)
    assert refused.value.reason == "WrongKeyUse"


def test_a_revocation_list_comes_with_what_needs_it() -> None:
    listed = sign(revocations_claims([]), V.keys[TokenKind.REVOCATIONS])
    text = bundle_text(content(license=license_token(revocationSequence=1), revocations=listed))
    assert read_bundle(text, V.roots, now=NOW).content.revocations == listed


def test_the_end_is_the_modes_to_judge_where_the_bundle_is_in_force() -> None:
    late = NOW + 203 * DAY
    with pytest.raises(PermanentError, match="ended"):
        read_bundle(TEXT, V.roots, now=late)
    assert read_bundle(TEXT, V.roots, now=late, check_expiry=False).claims.bundle_sequence == 5


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (camera_token(aud="inst-2"), "WrongAudience"),
        (camera_token(cameraId="cam-2"), "ContentChanged"),
        (camera_token(customerId="other"), "ContentChanged"),
        ("x.y.z", "Malformed"),
    ],
)
def test_every_cameras_token_is_proven(token: str, reason: str) -> None:
    cameras = [{"camera_id": "cam-1", "status": "issued", "token": token}]
    found = read_bundle(bundle_text(content(cameras=cameras)), V.roots, now=NOW)
    with pytest.raises(PermanentError, match="camera cam-1") as refused:
        check_cameras(found, now=NOW)
    assert refused.value.reason == reason


def test_a_bundle_is_for_one_customer_one_key_and_never_goes_back() -> None:
    found = read_bundle(TEXT, V.roots, now=NOW)
    check_for(found, customer_id=CUSTOMER, key_id=V.instance_key.kid, cluster="cluster-1")
    found = read_bundle(
        bundle_text(content(license=license_token(clusterFingerprint="cluster-1"))),
        V.roots,
        now=NOW,
    )
    check_for(found, customer_id=CUSTOMER, key_id=V.instance_key.kid, cluster="cluster-1")
    check_for(found, customer_id=CUSTOMER, key_id=None, cluster=None)
    for customer, key, cluster, reason in (
        ("other", V.instance_key.kid, "cluster-1", "CustomerMismatch"),
        (CUSTOMER, "k" * 43, "cluster-1", "WrongKey"),
        (CUSTOMER, V.instance_key.kid, "cluster-2", "WrongCluster"),
    ):
        with pytest.raises(PermanentError) as refused:
            check_for(found, customer_id=customer, key_id=key, cluster=cluster)
        assert refused.value.reason == reason
    assert check_newer(found, 4)
    assert not check_newer(found, 5)
    with pytest.raises(PermanentError) as refused:
        check_newer(found, 6)
    assert refused.value.reason == "BundleOutdated"


@given(st.integers(0, len(TEXT)), st.text(max_size=6))
def test_no_change_to_a_bundle_crashes_or_passes(at: int, put: str) -> None:
    broken = TEXT[:at] + put + TEXT[at + len(put) :]
    try:
        found = read_bundle(broken, V.roots, now=NOW)
    except PermanentError:
        return
    assert found == read_bundle(TEXT, V.roots, now=NOW)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.sampled_from(["keySet", "manifest", "content"]), json_values)
def test_no_member_of_another_kind_crashes(member: str, value: Any) -> None:
    with pytest.raises(PermanentError):
        read_bundle(changed(**{member: value}), V.roots, now=NOW)


@given(st.sampled_from(sorted(type(content()).model_fields)), json_values)
def test_no_content_crashes_even_if_the_vendor_had_signed_it(member: str, value: Any) -> None:
    said = {**json.loads(content_bytes(content())), member: value}
    data = json.dumps(said).encode()
    with suppress(PermanentError):
        read_bundle(signed(data), V.roots, now=NOW)
