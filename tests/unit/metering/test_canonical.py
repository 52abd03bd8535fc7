"""Canonical JSON, held against an independent implementation of RFC 8785."""

from __future__ import annotations

import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.kit.canonical import JsonValue, canonical_json, sha256_hex

pytestmark = pytest.mark.unit

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_KEYS = st.text(st.characters(max_codepoint=127))
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | _TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner),
    max_leaves=20,
)


@given(_VALUES)
def test_bytes_are_those_of_the_rfc(value: JsonValue) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(_KEYS, st.integers(0, 9), max_size=6), st.randoms())
def test_the_order_of_members_does_not_matter(value: dict[str, int], random: st.DataObject) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert canonical_json(dict(items)) == canonical_json(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.5, "no canonical form"),
        ({"a": [0.0]}, "no canonical form"),
        (float("nan"), "no canonical form"),
        (2**53, "send it as text"),
        (-(2**53), "send it as text"),
        ({"ä": 1}, "not plain ASCII"),
        ({1: 1}, "not plain ASCII"),
        (b"bytes", "no canonical form"),
        ({1, 2}, "no canonical form"),
    ],
)
def test_what_has_no_safe_form_is_refused(value: JsonValue, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        canonical_json(value)


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        canonical_json("\ud800")


def test_hash_is_the_published_one() -> None:
    # FIPS 180-2, the one-block message.
    assert sha256_hex(b"abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
