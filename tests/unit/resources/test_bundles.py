"""A bundle in Secrets: whole in one, or in parts that are in force all at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.kit.errors import InvalidInputError
from brinkbyte.resources.bundles import from_secrets, is_bundle, part_names, to_secrets

pytestmark = pytest.mark.unit
texts = st.text(alphabet="abc{}", min_size=1, max_size=300)


@given(texts, st.integers(5, 400))
def test_what_was_spread_comes_back(text: str, size: int) -> None:
    made = to_secrets("license", text, part_bytes=size)
    assert is_bundle(made.head)
    assert set(part_names("license", made.head)) == set(made.parts)
    assert all(len(value) <= size for part in made.parts.values() for value in part.values())
    assert from_secrets("license", made.head, made.parts) == text


def test_a_missing_or_another_bundles_part_is_no_bundle() -> None:
    made = to_secrets("license", "abcdef", part_bytes=2)
    other = to_secrets("license", "abcdeX", part_bytes=2)
    assert set(made.parts).isdisjoint(other.parts)
    first, *rest = made.parts
    assert from_secrets("license", made.head, {each: made.parts[each] for each in rest}) is None
    swapped = {**made.parts, first: {"bundle.json": "zz"}}
    assert from_secrets("license", made.head, swapped) is None


def test_a_secret_without_a_bundle_is_none() -> None:
    assert from_secrets("license", {}, {}) is None
    assert not is_bundle({"password": "x"})
    assert part_names("license", {"parts": "../../x 3"}) == ()


def test_what_does_not_fit_says_what_to_do() -> None:
    with pytest.raises(InvalidInputError, match="spread the cameras over Tenants"):
        to_secrets("license", "x" * 100, part_bytes=1)
    with pytest.raises(InvalidInputError, match="shorter name"):
        to_secrets("n" * 250, "x" * 100, part_bytes=50)
