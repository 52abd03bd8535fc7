"""Sealed batches: whoever changes a byte is found out; receipts are for one batch only."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.kit.canonical import canonical_json, sha256_hex
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.keys import SigningKey
from brinkbyte.license.tokens import TokenError, sign
from brinkbyte.metering.batches import (
    MAX_EVENTS,
    NO_HASH,
    BatchError,
    BatchHeader,
    SealedBatch,
    check_payload,
    payload_bytes,
    seal,
    verify_batch_header,
    verify_receipt,
)
from brinkbyte.metering.events import UsageEvent
from support.licensing import INSTANCE, NOW, receipt_claims, vendor
from unit.metering.test_events import EVENTS, event

pytestmark = pytest.mark.unit

EPOCH = "01890000-0000-7000-8000-000000000001"
KEY = vendor().instance_key
KEYS = {KEY.kid: KEY.private_key.public_key()}


def sealed(events: list[UsageEvent] | None = None, **over: Any) -> SealedBatch:
    return seal(
        events if events is not None else [event(), event()],
        over.pop("key", KEY),
        **{
            "instance": INSTANCE,
            "epoch": EPOCH,
            "batch_no": 1,
            "previous_hash": NO_HASH,
            **over,
        },
    )


def signed(header: dict[str, Any], **jose: Any) -> str:
    return jwt.encode(
        header,
        KEY.private_key,
        algorithm="RS256",
        headers={"typ": TokenKind.BATCH.typ, "kid": KEY.kid, **jose},
    )


@given(st.lists(EVENTS, min_size=1, max_size=5, unique_by=lambda made: made.id), st.randoms())
def test_payload_is_canonical_whatever_the_order(events: list[UsageEvent], random: Any) -> None:
    payload = payload_bytes(events)
    random.shuffle(events)
    assert payload_bytes(events) == payload
    read = [UsageEvent.model_validate(item) for item in json.loads(payload)]
    assert read == sorted(events, key=lambda made: made.id)


def test_a_sealed_batch_verifies_and_its_request_carries_the_signed_bytes() -> None:
    batch = sealed(follows="01890000-0000-7000-8000-000000000000")
    assert verify_batch_header(batch.token, KEYS) == batch.header
    check_payload(batch.header, batch.payload)
    request = json.loads(batch.to_wire())
    assert request["header"] == batch.token
    assert canonical_json(request["events"]) == batch.payload
    assert batch.payload in batch.to_wire()
    assert batch.header.count == 2


@given(st.data())
def test_any_changed_byte_of_the_header_is_refused(data: st.DataObject) -> None:
    token = _BATCH.token
    position = data.draw(st.integers(0, len(token) - 1))
    changed = data.draw(st.sampled_from("Aa0-_.Zz9").filter(lambda c: c != token[position]))
    tampered = token[:position] + changed + token[position + 1 :]
    if _same_bytes(token, tampered):
        return  # only the unused bits of a last base64 digit differ
    with pytest.raises(BatchError):
        verify_batch_header(tampered, KEYS)


@given(st.data())
def test_any_changed_byte_of_the_events_is_refused(data: st.DataObject) -> None:
    payload = bytearray(_BATCH.payload)
    position = data.draw(st.integers(0, len(payload) - 1))
    payload[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BatchError) as refused:
        check_payload(_BATCH.header, bytes(payload))
    assert refused.value.reason == "PayloadMismatch"


def _same_bytes(one: str, other: str) -> bool:
    def parts(token: str) -> list[bytes]:
        return [
            base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")
        ]

    try:
        return parts(one) == parts(other)
    except ValueError:
        return False


def test_batches_chain() -> None:
    first = sealed()
    second = sealed(batch_no=2, previous_hash=first.header.chain_hash)
    assert second.header.previous_hash == first.header.chain_hash
    members = second.header.to_wire()
    del members["chainHash"]
    expected = sha256_hex(first.header.chain_hash.encode() + canonical_json(members))
    assert second.header.chain_hash == expected


def test_a_chain_hash_that_is_not_the_headers_is_refused() -> None:
    members = sealed().header.to_wire()
    for change in ({"chainHash": NO_HASH}, {"batchNo": 2}, {"previousHash": "1" * 64}):
        with pytest.raises(BatchError) as refused:
            verify_batch_header(signed({**members, **change}), KEYS)
        assert refused.value.reason == "ChainMismatch"


@pytest.mark.parametrize(
    "change",
    [
        {"batchNo": 0},
        {"batchNo": 2**53},
        {"batchNo": "1"},
        {"count": 0},
        {"count": 1001},
        {"epoch": "E"},
        {"payloadSha256": "0"},
        {"instance": ""},
        {"more": 1},
        {"follows": 1},
        {"follows": ""},
        {"follows": "\ud800"},
        {"follows": "01890000-0000-4000-8000-000000000001"},
        {"epoch": "01890000-0000-4000-8000-000000000001"},
        {"epoch": "\ud800"},
        {"instance": "a\ud800"},
    ],
)
def test_a_malformed_header_is_refused_though_signed(change: dict[str, Any]) -> None:
    with pytest.raises(BatchError) as refused:
        verify_batch_header(signed({**sealed().header.to_wire(), **change}), KEYS)
    assert refused.value.reason == "MalformedBatch"


def test_a_foreign_key_type_or_algorithm_is_refused() -> None:
    batch = sealed()
    other = SigningKey.generate()
    reasons = {
        sealed(key=other).token: "UnknownInstanceKey",
        signed(batch.header.to_wire(), kid=other.kid): "UnknownInstanceKey",
        signed(batch.header.to_wire(), typ="JWT"): "MalformedBatch",
        "x" * 10_000: "MalformedBatch",
        "no.jws": "MalformedBatch",
        jwt.encode(batch.header.to_wire(), "s" * 32, algorithm="HS256"): "MalformedBatch",
        jwt.encode(
            batch.header.to_wire(),
            other.private_key,
            algorithm="RS256",
            headers={"typ": TokenKind.BATCH.typ, "kid": KEY.kid},
        ): "BadSignature",
    }
    for token, reason in reasons.items():
        with pytest.raises(BatchError) as refused:
            verify_batch_header(token, KEYS)
        assert refused.value.reason == reason


def test_sealing_refuses_none_too_many_and_twins() -> None:
    one = event()
    for events in ([], [one, one], [event() for _ in range(MAX_EVENTS + 1)]):
        with pytest.raises(BatchError, match="1 to 1000 events"):
            sealed(events)
    assert sealed([event() for _ in range(MAX_EVENTS)]).header.count == MAX_EVENTS


def receipt(header: BatchHeader, **over: Any) -> str:
    claims = receipt_claims(
        **{
            "aud": header.instance,
            "instance": header.instance,
            "epoch": header.epoch,
            "batchNo": header.batch_no,
            "chainHash": header.chain_hash,
            "payloadSha256": header.payload_sha256,
            "count": header.count,
            **over,
        }
    )
    return sign(claims, vendor().keys[TokenKind.RECEIPT])


def test_a_receipt_proves_its_own_batch() -> None:
    batch = sealed()
    quarantined = [{"id": "e-1", "reason": "UnknownMeter"}]
    claims = verify_receipt(
        receipt(batch.header, quarantined=quarantined), batch.header, vendor().public, now=NOW
    )
    assert [item.id for item in claims.quarantined] == ["e-1"]


@pytest.mark.parametrize(
    ("over", "reason"),
    [
        ({"batchNo": 2}, "WrongReceipt"),
        ({"epoch": "01890000-0000-7000-8000-000000000009"}, "WrongReceipt"),
        ({"chainHash": "1" * 64}, "WrongReceipt"),
        ({"payloadSha256": "1" * 64}, "WrongReceipt"),
        ({"count": 1}, "WrongReceipt"),
        ({"instance": "inst-2"}, "WrongReceipt"),
        ({"aud": "inst-2"}, "WrongAudience"),
        ({"exp": NOW}, "Expired"),
        ({"nbf": NOW + 301}, "NotYetValid"),
    ],
)
def test_any_other_receipt_is_refused(over: dict[str, Any], reason: str) -> None:
    batch = sealed()
    with pytest.raises(TokenError) as refused:
        verify_receipt(receipt(batch.header, **over), batch.header, vendor().public, now=NOW)
    assert refused.value.reason == reason


def test_the_instance_key_makes_no_receipts() -> None:
    batch = sealed()
    forged = SigningKey(KEY.private_key, (TokenKind.RECEIPT,))
    token = sign(receipt_claims(), forged)
    with pytest.raises(TokenError) as refused:
        verify_receipt(token, batch.header, vendor().public, now=int(time.time()))
    assert refused.value.reason == "UnknownKey"


_BATCH = sealed()
