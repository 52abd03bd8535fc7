"""Texts that hold whatever the facts are; addresses that may be reached; waits that grow."""

from __future__ import annotations

import ipaddress
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.billing.notifications.addresses import (
    RefusedAddressError,
    check_url,
    is_public,
)
from brinkbyte.billing.notifications.delivery import FIRST_WAIT, LONGEST_WAIT, backoff
from brinkbyte.billing.notifications.outbox import DIRECT, Kind
from brinkbyte.billing.notifications.schemas import TargetKind
from brinkbyte.billing.notifications.texts import text_of

FACTS = (
    "title", "percent", "used", "included", "periodEnd", "daysRemaining", "endsAt", "number",
    "dueAt", "currency", "amount", "basis", "soFar", "projected", "total", "name", "role",
    "customerName", "expiresAt",
)  # fmt: skip
values = st.none() | st.text(max_size=20) | st.integers() | st.sampled_from(["<b>x", "a\r\nBcc: b"])


class Page(HTMLParser):
    """Collects what a page has of tags."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
@given(facts=st.dictionaries(st.sampled_from(FACTS), values))
def test_every_kind_has_a_text_for_any_facts(kind: Kind, facts: dict[str, object]) -> None:
    text = text_of(kind, facts, url="https://example.com/?a=1&b=2" if kind in DIRECT else None)
    assert text.subject.isprintable()
    assert text.url
    assert text.url in text.plain
    assert len(text.short) <= 300
    page = Page()
    page.feed(text.html)
    assert page.tags <= {"html", "head", "meta", "title", "body", "h1", "p", "a"}


def test_targets_can_ask_for_every_kind_that_is_not_for_one_person() -> None:
    assert set(TargetKind.__args__) == {kind.value for kind in Kind if kind not in DIRECT}


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00:ec2::254",
        "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:1",
        "2002:7f00:1::1", "198.18.0.1", "192.0.2.1", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_inside_are_refused(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111"])
def test_addresses_of_the_open_internet_are_not(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    ["http://example.com", "https://", "https://a:b@example.com", "https://[::1", "//example.com",
     "https://example.com/#x", "https://127.1.1.1:8443/", "https://example.com:99999/", ""],
)  # fmt: skip
def test_urls_that_no_webhook_may_have(url: str) -> None:
    with pytest.raises(RefusedAddressError):
        check_url(url, allow_private=False)


@given(attempts=st.integers(1, 1000), jitter=st.floats(0, 1))
def test_waits_double_up_to_six_hours(attempts: int, jitter: float) -> None:
    base = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (min(attempts, 30) - 1))
    assert 0.8 * base <= backoff(attempts, jitter=jitter) <= 1.2001 * base
