"""Signatures are judged as Stripe's own SDK judges them, by a clock that can be moved."""

from __future__ import annotations

import hashlib
import hmac
import json
import time

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.billing.providers.errors import WebhookError
from brinkbyte.billing.providers.stripe_provider import API_VERSION
from brinkbyte.billing.providers.stripe_webhooks import StripeWebhooks

EVENT = {"id": "evt_1", "type": "invoice.paid", "created": 1, "data": {"object": {"id": "in_1"}}}


def signature(secret: str, body: bytes, at: int) -> str:
    return hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256).hexdigest()


@given(
    st.sampled_from(["whsec_a", "whsec_b", ""]),
    st.sampled_from([0, -100, -290, -400, -100_000]),
    st.sampled_from(["v1", "v0", "v2"]),
    st.booleans(),
)
def test_same_judgement_as_the_sdk(secret: str, age: int, scheme: str, changed: bool) -> None:
    now = int(time.time())
    body = json.dumps(EVENT).encode()
    header = f"t={now + age},{scheme}={signature(secret, body, now + age)}"
    sent = body.replace(b"in_1", b"in_2") if changed else body
    try:
        stripe.WebhookSignature.verify_header(sent.decode(), header, "whsec_a", 300)
        theirs = True
    except stripe.SignatureVerificationError:
        theirs = False
    try:
        StripeWebhooks(["whsec_a"], lambda: now).verify(sent, {"stripe-signature": header})
        ours = True
    except WebhookError:
        ours = False
    assert ours == theirs == (secret == "whsec_a" and age > -300 and scheme == "v1" and not changed)


def test_future_is_refused_too() -> None:
    body = json.dumps(EVENT).encode()
    webhooks = StripeWebhooks(["whsec_a"], lambda: 1_000_000)
    header = f"t=1000301,v1={signature('whsec_a', body, 1_000_301)}"
    with pytest.raises(WebhookError, match="300 s"):
        webhooks.verify(body, {"stripe-signature": header})


def test_one_api_version_everywhere() -> None:
    assert stripe.api_version == API_VERSION
