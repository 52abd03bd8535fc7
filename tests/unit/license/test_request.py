"""Requests: whole and signed by their own key, or refused with a reason."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.kit.canonical import sha256_hex
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.keys import SigningKey
from brinkbyte.license.packing import pack, unpack
from brinkbyte.license.request import MAX_REQUEST_BYTES, RequestError, read_request
from support.bundles import inventory, request_text
from support.licensing import CUSTOMER, DAY, NOW, vendor

pytestmark = pytest.mark.unit
TEXT = request_text()


def changed(**members: Any) -> str:
    return json.dumps({**json.loads(TEXT), **members})


def resigned(header: dict[str, Any] | None = None, **claims: Any) -> str:
    """Return the request with other claims, signed by its own key all the same."""
    outer = json.loads(TEXT)
    payload = jwt.decode(outer["request"], options={"verify_signature": False})
    key = vendor().instance_key
    token = jwt.encode(
        {**payload, **claims},
        key.private_key,
        algorithm="RS256",
        headers={"typ": TokenKind.REQUEST.typ, "kid": key.kid, **(header or {})},
    )
    return changed(request=token)


def test_a_request_says_who_asks_for_what() -> None:
    found = read_request(TEXT, now=NOW)
    assert found.claims.sub == CUSTOMER
    assert found.public_key.kid == vendor().instance_key.kid
    assert found.inventory == inventory()


def test_a_request_holds_no_private_key() -> None:
    assert "PRIVATE" not in TEXT
    assert json.loads(TEXT)["publicKey"].keys() <= {"kty", "kid", "alg", "use", "n", "e", "kinds"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Malformed"),
        ("{", "Malformed"),
        ("[]", "Malformed"),
        ("null", "Malformed"),
        ("[" * 100_000, "Malformed"),
        (TEXT[:-40], "Malformed"),
        ("x" * (MAX_REQUEST_BYTES + 1), "Malformed"),
        (changed(request=None), "Malformed"),
        (changed(inventory=7), "Malformed"),
        (changed(inventory="@@@"), "Malformed"),
        (changed(inventory=json.loads(TEXT)["inventory"][:-8]), "Malformed"),
        (changed(publicKey={}), "Malformed"),
        (changed(publicKey={**json.loads(TEXT)["publicKey"], "n": "AQAB"}), "WeakKey"),
        (changed(publicKey=SigningKey.generate().jwk.model_dump(mode="json")), "UnknownKey"),
        (changed(request="a.b.c"), "Malformed"),
        (changed(inventory=pack(b"{}")), "InventoryChanged"),
        (resigned({"typ": TokenKind.ENROLLMENT.typ}), "WrongType"),
        (resigned(sub="not an id"), "InvalidClaims"),
        (resigned(iat="now"), "InvalidClaims"),
        (resigned(iat=NOW + 3 * DAY), "NotYetValid"),
        (request_text(inventory(baseRevision=3)), "Malformed"),
    ],
)
def test_a_bad_request_is_refused_and_says_what_to_do(text: str, reason: str) -> None:
    with pytest.raises(RequestError) as refused:
        read_request(text, now=NOW)
    assert refused.value.reason == reason
    assert "brinkbyte license request" in refused.value.message


def test_an_inventory_that_is_signed_but_none_is_refused() -> None:
    data = b'{"devices": 7}'
    text = json.loads(resigned(inventorySha256=sha256_hex(data)))
    with pytest.raises(RequestError, match="devices"):
        read_request(json.dumps({**text, "inventory": pack(data)}), now=NOW)


@given(st.integers(0, len(TEXT)), st.text(max_size=6))
def test_no_change_to_a_request_crashes_or_passes(at: int, put: str) -> None:
    broken = TEXT[:at] + put + TEXT[at + len(put) :]
    try:
        found = read_request(broken, now=NOW)
    except RequestError:
        return
    assert found == read_request(TEXT, now=NOW)


@given(st.binary(max_size=2000))
def test_packing_loses_nothing_and_keeps_within_its_limit(data: bytes) -> None:
    assert unpack(pack(data), limit=2000) == data
    if len(data) > 1:
        with pytest.raises(ValueError, match="truncated"):
            unpack(pack(data), limit=len(data) - 1)


@given(st.text(max_size=200))
def test_unpacking_anything_is_a_value_error_at_worst(text: str) -> None:
    with suppress(ValueError):
        unpack(text, limit=1000)
