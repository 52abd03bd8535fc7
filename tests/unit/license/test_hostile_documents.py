"""Bad documents: each is refused with its reason, none crashes, the last good stay in force."""

from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy
from functools import lru_cache
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brinkbyte.license.claims import TokenKind
from brinkbyte.license.clock import ClockState
from brinkbyte.license.documents import Snapshot
from brinkbyte.license.keys import (
    KeySetError,
    load_roots,
    parse_key_set,
    sign_key_set,
    verify_key_set,
)
from support.campaign_plan import soaking
from support.hostile_documents import (
    KINDS,
    NEWER,
    SEQUENCE,
    VERIFIER,
    broken_seat_lists,
    forgeries,
    held,
    part,
    payload,
    raw_token,
    token,
)
from support.licensing import DAY, NOW, vendor

pytestmark = pytest.mark.unit
EXAMPLES = 3000 if soaking() else 150


def refuse(kind: TokenKind, document: str) -> str:
    """Take a document in beside good ones; return why it was refused."""
    before = held()
    taken = VERIFIER.take_in(before, {kind: document}, now=NOW)
    assert taken.snapshot is before, "the last good documents are no longer in force"
    assert taken.accepted == ()
    (refusal,) = taken.refused
    assert refusal.kind is kind
    assert len(refusal.message) > 10
    # The attacker's text is not ours to repeat: logs and audit stay readable.
    assert len(refusal.message) < 500
    return refusal.reason


def test_beside_the_forgeries_a_good_document_is_taken_in() -> None:
    for kind in KINDS:
        taken = VERIFIER.take_in(held(), {kind: token(kind, payload(kind))}, now=NOW)
        assert taken.accepted == (kind,)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", forgeries())
def test_every_forgery_is_refused_with_its_reason(name: str, kind: TokenKind) -> None:
    make, reasons = forgeries()[name]
    assert refuse(kind, make(kind)) in reasons


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in KINDS for name in payload(kind)]
)
def test_a_missing_or_mistyped_claim_is_refused(kind: TokenKind, name: str) -> None:
    good = payload(kind)
    optional = {"tenantPacks", "quotas", "quotaRules", "clusterFingerprint"}
    if name not in optional:
        rest = {key: value for key, value in good.items() if key != name}
        assert refuse(kind, token(kind, rest)) == "InvalidClaims"
    for value in (None, -1, 1.5, True, "x" * 300, [[]], {"a": {}}, 10**30, "\x00", ""):
        text = token(kind, {**good, name: value})
        taken = VERIFIER.take_in(held(), {kind: text}, now=NOW)
        assert taken.accepted or taken.refused[0].reason in {
            "InvalidClaims",
            "WrongAudience",
            "CustomerMismatch",
            "NotYetValid",
            "RevocationListMissing",
            "Malformed",
        }


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("features", "maxDevices"),
        ("features", "dataRetentionDays"),
        ("limits", "maxUsers"),
        ("limits", "maxAlertRules"),
        ("limits", "maxDashboards"),
    ],
)
@pytest.mark.parametrize("value", [-1, -(10**9), 10**10, 1.0, "50", True, [50], float("inf")])
def test_a_limit_that_is_none_is_refused(group: str, name: str, value: Any) -> None:
    good = payload(TokenKind.LICENSE)
    bad = {**good, group: {**good[group], name: value}}
    assert refuse(TokenKind.LICENSE, token(TokenKind.LICENSE, bad)) in {
        "InvalidClaims",
        "Malformed",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_an_older_or_equal_number_replaces_nothing(kind: TokenKind) -> None:
    before = held()
    for number in (0, 6, 7):
        taken = VERIFIER.take_in(before, {kind: token(kind, payload(kind, number))}, now=NOW)
        assert taken.snapshot is before
        assert taken.accepted == ()


@pytest.mark.parametrize("number", [-1, 2**53, 2**64, 1.0, "99", None])
@pytest.mark.parametrize("kind", KINDS)
def test_a_number_that_is_none_is_refused(kind: TokenKind, number: Any) -> None:
    assert refuse(kind, token(kind, payload(kind, **{SEQUENCE[kind]: number}))) == "InvalidClaims"


@pytest.mark.parametrize("name", broken_seat_lists())
def test_a_broken_seat_list_is_refused_though_the_vendor_signed_it(name: str) -> None:
    bad = payload(TokenKind.SEATS, **broken_seat_lists()[name])
    reasons = {"InvalidClaims", "Malformed"} if "longer" in name else {"InvalidClaims"}
    assert refuse(TokenKind.SEATS, token(TokenKind.SEATS, bad)) in reasons


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"kind": "license", "subject": "acme"},
        {"kind": "everything", "subject": "acme", "upTo": 1},
        {"kind": "license", "subject": "", "upTo": 1},
        {"kind": "license", "subject": "acme", "upTo": -1},
        {"kind": "license", "subject": "acme", "upTo": "1"},
        {"kind": "license", "subject": "acme", "upTo": 2**60},
        ["license", "acme", 1],
        None,
    ],
)
def test_a_broken_revocation_is_refused(entry: Any) -> None:
    bad = payload(TokenKind.REVOCATIONS, entries=[entry])
    assert refuse(TokenKind.REVOCATIONS, token(TokenKind.REVOCATIONS, bad)) == "InvalidClaims"


@lru_cache(maxsize=1)
def key_sets() -> dict[str, str]:
    """Key sets that no root of the release vouches for, or that are none."""
    root, own = vendor().root, vendor().instance_key
    keys = [key.jwk for key in vendor().keys.values()]
    good = json.loads(vendor().key_set(number=NEWER))
    claims = jwt.decode(good["signed"], options={"verify_signature": False})

    def again(by: Any = root, plain: Any = None, alg: str = "RS256", **over: Any) -> str:
        body = {**claims, **over}
        headers = {"typ": TokenKind.KEY_SET.typ, "kid": root.kid}
        signed = jwt.encode(body, by.private_key, algorithm=alg, headers=headers)
        return json.dumps({"keys": body.get("keys") if plain is None else plain, "signed": signed})

    def without(name: str) -> str:
        body = {k: v for k, v in claims.items() if k != name}
        signed = jwt.encode(
            body,
            root.private_key,
            algorithm="RS256",
            headers={"typ": TokenKind.KEY_SET.typ, "kid": root.kid},
        )
        return json.dumps({"keys": good["keys"], "signed": signed})

    header = {"alg": "none", "typ": TokenKind.KEY_SET.typ, "kid": root.kid}
    return {
        "alg none": json.dumps(
            {"keys": good["keys"], "signed": raw_token(header, json.dumps(claims).encode())}
        ),
        "own root": json.dumps(sign_key_set(own, [own.jwk], number=NEWER, now=NOW)),
        "own key under the root's name": again(own),
        "PS256 by the root": again(alg="PS256"),
        "a key added beside": json.dumps(
            {**good, "keys": [*good["keys"], own.jwk.model_dump(mode="json")]}
        ),
        "the keys swapped": json.dumps({**good, "keys": [own.jwk.model_dump(mode="json")]}),
        "a license in its place": json.dumps(
            {
                "keys": good["keys"],
                "signed": token(TokenKind.LICENSE, payload(TokenKind.LICENSE), key=root),
            }
        ),
        "no keys": again(keys=[]),
        "too many keys": again(keys=[keys[0].model_dump(mode="json")] * 65),
        "keys of text": again(keys="all"),
        "keys of numbers": again(keys=[1, 2]),
        "a key of a list": again(keys=[[]]),
        "another kind of key": again(keys=[{"kty": "EC", "crv": "P-256", "x": "", "y": ""}]),
        "a small key": again(keys=[{**own.jwk.model_dump(mode="json"), "n": "AQAB"}]),
        "an even modulus": again(
            keys=[{**own.jwk.model_dump(mode="json"), "n": part(b"\xff" * 255 + b"\xfe")}]
        ),
        "exponent one": again(keys=[{**own.jwk.model_dump(mode="json"), "e": "AQ"}]),
        "a key under another's id": again(
            keys=[{**own.jwk.model_dump(mode="json"), "kid": keys[0].kid}]
        ),
        "kinds of a number": again(keys=[{**own.jwk.model_dump(mode="json"), "kinds": 7}]),
        "an unknown kind": again(keys=[{**own.jwk.model_dump(mode="json"), "kinds": ["any"]}]),
        "no number": without("number"),
        "no end": without("exp"),
        "no keys member": without("keys"),
        "number of a text": again(number="99"),
        "a negative number": again(number=-1),
        "a number beyond": again(number=2**60),
        "ended": again(iat=NOW - 900 * DAY, exp=NOW),
        "of tomorrow": again(iat=NOW + DAY),
        "another issuer's": again(iss="own"),
        "not JSON": "{",
        "a list": "[]",
        "text": '"keys"',
        "nothing": "{}",
        "signed by a number": json.dumps({"keys": good["keys"], "signed": 7}),
        "signed by a list": json.dumps({"keys": good["keys"], "signed": []}),
        "signed by nothing": json.dumps({"keys": good["keys"], "signed": ""}),
        "half a character": vendor().key_set(number=NEWER)[:-3] + "\ud800" + '"}',
        "too deep": "[" * 100_000,
        "keys too deep": '{"signed":"' + good["signed"] + '","keys":' + "[" * 900 + "]" * 900 + "}",
        "huge": vendor().key_set(number=NEWER) + " " * 300_000,
        "truncated": vendor().key_set(number=NEWER)[:-40],
        "a plain set": json.dumps({"keys": good["keys"]}),
    }


@pytest.mark.parametrize("name", key_sets())
def test_a_key_set_that_no_root_vouches_for_changes_nothing(name: str) -> None:
    assert refuse(TokenKind.KEY_SET, key_sets()[name]) in {
        "MalformedKeySet",
        "UntrustedKeySet",
        "KeySetExpired",
    }


def test_an_older_key_set_brings_no_key_back() -> None:
    before = held()
    taken = VERIFIER.take_in(before, {TokenKind.KEY_SET: vendor().key_set(number=6)}, now=NOW)
    assert taken.snapshot is before


@pytest.mark.parametrize("name", key_sets())
def test_reading_a_set_without_proof_crashes_on_nothing_either(name: str) -> None:
    for read in (parse_key_set, load_roots):
        # A well-formed one is read: it only proves nothing.
        with suppress(KeySetError):
            read(key_sets()[name])


def test_all_at_once_the_good_ones_among_the_bad_are_taken_in() -> None:
    documents = {kind: token(kind, payload(kind)) for kind in KINDS}
    documents[TokenKind.SEATS] = "nonsense"
    documents[TokenKind.KEY_SET] = "{}"
    taken = VERIFIER.take_in(held(), documents, now=NOW)
    assert set(taken.accepted) == {TokenKind.LICENSE, TokenKind.REVOCATIONS}
    assert taken.snapshot.sequence(TokenKind.SEATS) == 7
    assert {refusal.kind for refusal in taken.refused} == {TokenKind.SEATS, TokenKind.KEY_SET}


# Fuzzed.

ODD = st.sampled_from(
    [None, True, -1, 0, 1.5, 10**18, 10**400, "", "\x00", "\ud800", "x" * 300, [], {}, [[[]]]]
)
JSON = st.recursive(ODD, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, ...]] = [at] if at else []
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, below in items:
        inner += paths(below, (*at, key))
    return inner


def mutated(value: Any, data: st.DataObject) -> Any:
    copy = deepcopy(value)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(paths(copy)))
        parent = copy
        for key in path[:-1]:
            parent = parent[key]
        if isinstance(parent, dict) and data.draw(st.booleans()):
            del parent[path[-1]]
        else:
            parent[path[-1]] = deepcopy(data.draw(JSON))
        if not paths(copy):
            break
    return copy


@pytest.mark.soak
@settings(max_examples=EXAMPLES)
@given(kind=st.sampled_from(KINDS), data=st.data())
def test_whatever_structure_the_vendor_signs_crashes_nothing(
    kind: TokenKind, data: st.DataObject
) -> None:
    document = token(kind, mutated(payload(kind), data))
    before = held()
    taken = VERIFIER.take_in(before, {kind: document}, now=NOW)
    if taken.refused:
        assert taken.snapshot is before
        assert taken.refused[0].reason
    # What was accepted can be kept, read again and asked.
    assert VERIFIER.take_in(Snapshot(), taken.snapshot.raw, now=NOW).snapshot == taken.snapshot


@pytest.mark.soak
@settings(max_examples=EXAMPLES)
@given(
    kind=st.sampled_from([*KINDS, TokenKind.KEY_SET]),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.none() | st.integers(0, 10**6),
)
def test_no_changed_byte_widens_anything(
    kind: TokenKind, edits: list[tuple[int, int]], cut: int | None
) -> None:
    good = held()
    text = bytearray(good.raw[kind].encode())
    for at, byte in edits:
        text[at % len(text)] = byte
    document = bytes(text[: cut % len(text)] if cut is not None else text).decode("latin-1")
    # Onto an empty site, so that a number is no reason to pass it over.
    others = {k: v for k, v in good.raw.items() if k is not kind}
    taken = VERIFIER.take_in(Snapshot(), {**others, kind: document}, now=NOW)
    if kind in taken.accepted:
        # base64url has spare bits, JSON spare spaces: nothing of what is said differs.
        assert taken.snapshot.sequence(kind) == 7
        assert taken.snapshot.license in (None, good.license)
        assert taken.snapshot.key_set == good.key_set


@pytest.mark.soak
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_whatever_structure_the_root_signs_crashes_nothing(data: st.DataObject) -> None:
    good = json.loads(vendor().key_set(number=NEWER))
    claims = mutated(jwt.decode(good["signed"], options={"verify_signature": False}), data)
    signed = token(TokenKind.KEY_SET, claims, key=vendor().root)
    document = json.dumps({"keys": claims.get("keys"), "signed": signed})
    try:
        found = verify_key_set(document, vendor().roots, now=NOW)
    except KeySetError:
        return
    assert set(found.keys) <= set(vendor().public)


@given(JSON)
def test_a_clock_that_somebody_edited_is_none(kept: Any) -> None:
    state = ClockState.read(kept)
    assert state.signed_time >= 0
    assert state.running_seconds >= 0


@pytest.mark.parametrize(
    "kept",
    [
        {"signedTime": NOW, "runningSeconds": -(10**9)},
        {"signedTime": "soon"},
        {"signedTime": 10**15},
        [],
        None,
        "x",
    ],
)
def test_a_clock_never_counts_backwards(kept: Any) -> None:
    assert ClockState.read(kept) == ClockState()


def test_a_clock_of_a_later_release_is_read_without_what_it_added() -> None:
    kept = {"signedTime": NOW, "runningSeconds": 5, "novelty": 1}
    assert ClockState.read(kept) == ClockState(signed_time=NOW, running_seconds=5)
