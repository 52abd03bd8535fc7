"""Signed documents: verified before they are taken, the newest wins, nothing is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from brinkbyte.controller.documents import (
    CameraTokens,
    Documents,
    camera_revoked,
    merge_documents,
    read_documents,
)
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.keys import SigningKey, sign_key_set
from brinkbyte.license.seats import Seat
from brinkbyte.license.tokens import TokenError, sign
from brinkbyte.license.wire import Held, Tokens
from brinkbyte.resources import names
from support.licensing import (
    INSTANCE,
    NOW,
    camera_claims,
    license_claims,
    revocations_claims,
    seats_claims,
    vendor,
)

V = vendor()


def license_token(**over: Any) -> str:
    return sign(license_claims(**over), V.keys[TokenKind.LICENSE])


def texts(**over: str) -> dict[str, str]:
    return {
        names.KEY_SET_KEY: V.key_set(),
        names.LICENSE_KEY: license_token(),
        names.SEATS_KEY: sign(seats_claims([]), V.keys[TokenKind.SEATS]),
        names.REVOCATIONS_KEY: sign(
            revocations_claims([{"kind": "camera", "subject": "cam-1", "upTo": 3}]),
            V.keys[TokenKind.REVOCATIONS],
        ),
        **over,
    }


def read(given: dict[str, str]) -> Documents:
    return read_documents(given, V.roots, instance=INSTANCE, now=NOW)


def merge(held: Documents, **answer: Any) -> Documents:
    return merge_documents(
        held, Tokens(server_time=NOW, **answer), V.roots, instance=INSTANCE, now=NOW
    )


def test_good_documents_are_held_with_their_numbers() -> None:
    documents = read(texts())
    assert documents.complete
    assert not documents.problems
    assert documents.texts.keys() == texts().keys()
    assert documents.held.license_sequence == 7
    assert documents.held.seats_sequence == 9
    assert documents.held.revocation_sequence == 1
    assert documents.held.key_set_number == 1


def test_a_key_set_of_another_root_verifies_nothing() -> None:
    other = SigningKey.generate()
    false_set = json.dumps(sign_key_set(other, [V.keys[TokenKind.LICENSE].jwk], number=9, now=NOW))
    documents = read(texts(**{names.KEY_SET_KEY: false_set}))
    assert documents.problems[names.KEY_SET_KEY].reason == "UntrustedKeySet"
    assert documents.license is None
    assert documents.texts == {}


@pytest.mark.parametrize(
    ("over", "reason"),
    [({"aud": "another-instance"}, "WrongAudience"), ({"nbf": NOW + 9999}, "NotYetValid")],
)
def test_a_license_for_somebody_else_is_not_taken(over: dict[str, Any], reason: str) -> None:
    documents = read(texts(**{names.LICENSE_KEY: license_token(**over)}))
    assert documents.problems[names.LICENSE_KEY].reason == reason
    assert names.LICENSE_KEY not in documents.texts
    assert documents.seats is not None


def test_an_ended_license_is_kept_the_modes_judge_it() -> None:
    documents = read(texts(**{names.LICENSE_KEY: license_token(exp=NOW - 5)}))
    assert documents.license is not None


def test_newer_replaces_older_and_older_never_newer() -> None:
    held = read(texts())
    newer = merge(held, license=license_token(licenseSequence=8))
    assert newer.held.license_sequence == 8
    assert merge(newer, license=license_token(licenseSequence=7)).texts == newer.texts
    key_set = json.loads(V.key_set(number=2))
    assert merge(newer, key_set=key_set).held.key_set_number == 2


def test_what_does_not_verify_leaves_what_was_held() -> None:
    held = read(texts())
    forged = sign(license_claims(licenseSequence=99), SigningKey.generate([TokenKind.LICENSE]))
    merged = merge(held, license=forged)
    assert merged.problems[names.LICENSE_KEY].reason == "UnknownKey"
    assert merged.texts == held.texts
    false_set = sign_key_set(
        SigningKey.generate(), [V.keys[TokenKind.LICENSE].jwk], number=9, now=NOW
    )
    merged = merge(held, key_set=false_set)
    assert merged.problems[names.KEY_SET_KEY].reason == "UntrustedKeySet"
    assert merged.texts == held.texts


def test_nothing_comes_of_nothing() -> None:
    assert read({}).held == Documents().held
    assert not merge(read({}), license=license_token()).texts


def test_camera_tokens_are_verified_for_this_instance() -> None:
    tokens = CameraTokens(size=1)
    documents = read(texts())
    assert documents.key_set is not None
    good = sign(camera_claims(), V.keys[TokenKind.CAMERA])
    for _ in range(2):
        claims = tokens.verify(good, documents.key_set, instance=INSTANCE, now=NOW)
        assert claims.camera_id == "cam-1"
    with pytest.raises(TokenError) as caught:
        tokens.verify(good, documents.key_set, instance="other", now=NOW)
    assert caught.value.reason == "WrongAudience"
    with pytest.raises(TokenError):
        tokens.verify(good[:-4] + "AAAA", documents.key_set, instance=INSTANCE, now=NOW)
    assert camera_revoked(documents, claims)
    assert not camera_revoked(read({}), claims)


def test_a_seat_list_is_held_whole() -> None:
    listed = [Seat("cam-1", "hw-1", camera_claims().mode, ("retail",))]
    token = sign(seats_claims(listed, seatsSequence=10), V.keys[TokenKind.SEATS])
    merged = merge(read(texts()), seats=token)
    assert merged.seats is not None
    assert merged.seats.count == 1


def test_a_set_without_the_old_keys_comes_with_everything_cut_anew_and_nothing_is_missed() -> None:
    """What the billing API answers after old keys were taken away by force."""
    held = read(texts())
    kinds = (TokenKind.LICENSE, TokenKind.SEATS, TokenKind.REVOCATIONS)
    fresh = {kind: SigningKey.generate([kind]) for kind in kinds}
    key_set = sign_key_set(V.root, [key.jwk for key in fresh.values()], number=2, now=NOW)
    answer = {
        "license": sign(license_claims(licenseSequence=8), fresh[TokenKind.LICENSE]),
        "seats": sign(seats_claims([], seatsSequence=10), fresh[TokenKind.SEATS]),
        "revocations": sign(
            revocations_claims([], revocationSequence=2), fresh[TokenKind.REVOCATIONS]
        ),
    }
    after = merge(held, key_set=key_set, **answer)
    assert after.problems == {}
    assert after.held == Held(
        key_set_number=2, license_sequence=8, seats_sequence=10, revocation_sequence=2
    )
    assert after.texts.keys() == held.texts.keys()
