"""Settings of the payment provider: no address that could get the key, no third secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from brinkbyte.billing.settings import STRIPE_API_BASE, ProviderSettings
from brinkbyte.kit.settings import SettingsError


@pytest.mark.parametrize(
    "base",
    [STRIPE_API_BASE, "http://127.0.0.1:12111", "http://[::1]:80", "https://localhost:1"],
)
def test_bases_that_are_stripe_or_loopback(base: str) -> None:
    assert ProviderSettings.load(stripe_api_base=base).stripe_api_base == base


@pytest.mark.parametrize(
    "base",
    [
        "http://api.stripe.com",
        "https://api.stripe.com.evil.example",
        "https://evil.example/api.stripe.com",
        "http://127.0.0.1@evil.example",
        "https://user@127.0.0.1",
        "http://10.0.0.1",
        "ftp://127.0.0.1",
        "127.0.0.1:80",
        "",
        "http://[",
    ],
)
def test_bases_that_would_get_the_key(base: str) -> None:
    with pytest.raises(SettingsError, match="BRINKBYTE_STRIPE_API_BASE"):
        ProviderSettings.load(stripe_api_base=base)


def test_secrets_from_files_one_or_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secrets"
    monkeypatch.setenv("BRINKBYTE_STRIPE_WEBHOOK_SECRETS_FILE", str(path))
    assert ProviderSettings.load().webhook_secrets() == ()
    path.write_text("whsec_a\nwhsec_b\n")
    assert ProviderSettings.load().webhook_secrets() == ("whsec_a", "whsec_b")
    path.write_text("whsec_a")
    assert ProviderSettings.load().webhook_secrets() == ("whsec_a",)
    for wrong in ("a b c", " , "):
        path.write_text(wrong)
        with pytest.raises(SettingsError, match="one signing secret, or two"):
            ProviderSettings.load()
    assert "whsec" not in repr(ProviderSettings.load(stripe_webhook_secrets="whsec_a"))


def test_unknown_provider() -> None:
    with pytest.raises(SettingsError, match="BRINKBYTE_BILLING_PROVIDER"):
        ProviderSettings.load(billing_provider="cash")
