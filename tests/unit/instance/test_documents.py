from __future__ import annotations

import json

import pytest

from brinkbyte.license.claims import TokenKind
from brinkbyte.license.documents import Snapshot, Verifier, newer_documents
from brinkbyte.license.keys import sign_key_set
from brinkbyte.license.tokens import sign
from brinkbyte.license.wire import Held
from support.licensing import (
    CUSTOMER,
    INSTANCE,
    NOW,
    license_claims,
    revocations_claims,
    seats_claims,
    vendor,
)

pytestmark = pytest.mark.unit
VERIFIER = Verifier(vendor().roots, INSTANCE, CUSTOMER)


def _documents(sequence: int = 7, **over: object) -> dict[TokenKind, str]:
    keys = vendor().keys
    return {
        TokenKind.KEY_SET: vendor().key_set(),
        TokenKind.LICENSE: sign(
            license_claims(licenseSequence=sequence, **over), keys[TokenKind.LICENSE]
        ),
        TokenKind.SEATS: sign(seats_claims([], seatsSequence=sequence), keys[TokenKind.SEATS]),
        TokenKind.REVOCATIONS: sign(
            revocations_claims([], revocationSequence=sequence), keys[TokenKind.REVOCATIONS]
        ),
    }


def test_a_whole_set_is_taken_in_whatever_its_order() -> None:
    documents = dict(reversed(_documents(revocationSequence=7).items()))
    taken = VERIFIER.take_in(Snapshot(), documents, now=NOW)
    assert taken.refused == ()
    assert set(taken.accepted) == set(documents)
    assert taken.snapshot.held == Held(
        license_sequence=7, seats_sequence=7, revocation_sequence=7, key_set_number=1
    )
    assert taken.snapshot.newest_signed_time == NOW


def test_the_same_and_older_ones_change_nothing() -> None:
    held = VERIFIER.take_in(Snapshot(), _documents(7), now=NOW).snapshot
    for documents in (_documents(7), _documents(6), {}):
        again = VERIFIER.take_in(held, documents, now=NOW)
        assert again.snapshot is held
        assert (again.accepted, again.refused) == ((), ())


def test_without_an_instance_id_only_keys_are_taken_in() -> None:
    verifier = Verifier(vendor().roots, None, CUSTOMER)
    taken = verifier.take_in(Snapshot(), _documents(), now=NOW)
    assert taken.accepted == (TokenKind.KEY_SET,)
    assert {refusal.reason for refusal in taken.refused} == {"NotEnrolled"}


def test_no_keys_no_license() -> None:
    documents = _documents()
    del documents[TokenKind.KEY_SET]
    taken = VERIFIER.take_in(Snapshot(), documents, now=NOW)
    assert taken.snapshot == Snapshot()
    assert {refusal.reason for refusal in taken.refused} == {"UnknownKey"}


def test_roots_of_another_vendor_verify_nothing() -> None:
    taken = Verifier({}, INSTANCE, CUSTOMER).take_in(Snapshot(), _documents(), now=NOW)
    assert taken.snapshot == Snapshot()
    assert "UntrustedKeySet" in {refusal.reason for refusal in taken.refused}


def test_every_document_of_another_customer_is_refused() -> None:
    verifier = Verifier(vendor().roots, INSTANCE, "other")
    taken = verifier.take_in(Snapshot(), _documents(), now=NOW)
    assert [refusal.reason for refusal in taken.refused] == ["CustomerMismatch"] * 3


def test_a_key_set_without_their_keys_drops_every_kind() -> None:
    held = VERIFIER.take_in(Snapshot(), _documents(), now=NOW).snapshot
    receipt_only = [vendor().keys[TokenKind.RECEIPT].jwk]
    key_set = json.dumps(sign_key_set(vendor().root, receipt_only, number=2, now=NOW))
    taken = VERIFIER.take_in(held, {TokenKind.KEY_SET: key_set}, now=NOW)
    assert taken.snapshot.license is None
    assert taken.snapshot.seats is None
    assert taken.snapshot.revocations is None
    assert set(taken.snapshot.raw) == {TokenKind.KEY_SET}
    assert len(taken.refused) == 3


def test_what_is_newer_than_what_another_holds() -> None:
    held = VERIFIER.take_in(Snapshot(), _documents(7), now=NOW).snapshot
    theirs = Held(license_sequence=7, key_set_number=1)
    assert [kind for kind, _, _ in newer_documents(held, theirs)] == [
        TokenKind.REVOCATIONS,
        TokenKind.SEATS,
    ]
