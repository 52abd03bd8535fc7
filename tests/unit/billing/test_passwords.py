"""Passwords: the stored form says how it was made, and opens for its password alone."""

from __future__ import annotations

import pytest

from brinkbyte.billing.users import passwords
from brinkbyte.billing.users.passwords import hash_password, verify_password


def test_hashes_are_salted_and_verify_with_the_parameters_that_they_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert hash_password("x" * 12).startswith("scrypt$15$8$3$")
    monkeypatch.setattr(passwords, "LOG2_N", 4)
    first, second = hash_password("correct horse"), hash_password("correct horse")
    assert first != second
    assert "correct" not in first
    monkeypatch.setattr(passwords, "LOG2_N", 5)
    for stored in (first, second):
        assert verify_password("correct horse", stored)
        assert not verify_password("correct horsf", stored)
    assert not verify_password("", None)
    assert not verify_password("correct horse", None)
