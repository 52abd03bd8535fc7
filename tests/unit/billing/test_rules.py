"""Pure rules: standing, periods, issue, gauges, events, settings."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brinkbyte.billing.licenses.issue import (
    LINE,
    Issued,
    must_issue,
    next_sequence,
    quota_rules,
)
from brinkbyte.billing.settings import MigrationSettings, ServerSettings
from brinkbyte.billing.subscriptions.standing import Standing, period_of
from brinkbyte.billing.usage.events import Arrived, LedgerEvent, arrived, judge, parse_envelope
from brinkbyte.billing.usage.periods import mean_of_days
from brinkbyte.catalog import Terms, compile_entitlements, load_catalog
from brinkbyte.kit.settings import SettingsError
from brinkbyte.kit.uuid7 import from_parts
from brinkbyte.license.claims import SubscriptionStatus
from brinkbyte.metering.events import UsageEvent
from brinkbyte.rating.periods import add_months

pytestmark = pytest.mark.unit
NOW = 1_800_000_000
DAY = 86_400
CATALOG = load_catalog()
moments = st.integers(1_577_836_800, 2_208_988_800).map(
    lambda seconds: datetime.fromtimestamp(seconds, UTC)
)


def standing(status: SubscriptionStatus, **ends: int | None) -> Standing:
    given_ = {"trial_ends_at": None, "hard_end": None, **ends}
    return Standing("s", Terms(), status, datetime(2026, 1, 31, tzinfo=UTC), **given_)


@given(moments, moments)
def test_period_holds_the_moment_and_periods_meet(anchor: datetime, moment: datetime) -> None:
    anchor = anchor.replace(hour=0, minute=0, second=0, microsecond=0)
    start, end = period_of(anchor, moment)
    assert start <= moment < end
    assert period_of(anchor, end)[0] == end
    assert timedelta(days=28) <= end - start <= timedelta(days=31)


def test_period_from_the_31st_uses_the_last_day_of_short_months() -> None:
    anchor = datetime(2026, 1, 31, tzinfo=UTC)
    assert add_months(anchor, 1) == datetime(2026, 2, 28, tzinfo=UTC)
    assert add_months(anchor, 2) == datetime(2026, 3, 31, tzinfo=UTC)
    assert add_months(anchor, -2) == datetime(2025, 11, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "ends", "active", "keeps", "grace"),
    [
        ("active", {}, True, True, 7 * DAY),
        ("active", {"hard_end": NOW}, False, True, 7 * DAY),
        ("active", {"hard_end": NOW + 1}, True, True, 7 * DAY),
        ("active", {"trial_ends_at": NOW - 1}, True, True, 7 * DAY),
        ("past_due", {"hard_end": NOW + 1}, True, True, 7 * DAY),
        ("past_due", {"hard_end": NOW - 7 * DAY + 1}, False, True, 7 * DAY),
        ("past_due", {"hard_end": NOW - 7 * DAY}, False, False, 7 * DAY),
        ("trialing", {"trial_ends_at": NOW + 1}, True, True, 0),
        ("trialing", {"trial_ends_at": NOW}, False, False, 0),
        ("canceled", {}, False, False, 0),
        ("canceled", {"hard_end": NOW + 1}, True, True, 0),
        ("canceled", {"hard_end": NOW}, False, False, 0),
        ("suspended", {}, False, False, 7 * DAY),
        ("none", {}, False, False, 7 * DAY),
    ],
)
def test_who_is_in_good_standing(
    status: str, ends: dict[str, int], active: bool, keeps: bool, grace: int
) -> None:
    found = standing(SubscriptionStatus(status), **ends)
    assert (found.active(NOW), found.keeps(NOW)) == (active, keeps)
    assert found.grace_seconds == grace
    reason, message = found.refusal(NOW)
    assert reason in ("SubscriptionInactive", "TrialEnded")
    assert message


@given(st.integers(0, 2**52), st.floats(1e9, 4e9))
def test_sequences_only_grow_and_follow_the_clock(stored: int, now: float) -> None:
    found = next_sequence(stored, now)
    assert found > stored
    assert found >= int(now * 1_000_000)


@pytest.mark.parametrize(
    ("terms", "rules"),
    [
        (
            {"plans": {"platform": "free"}},
            {"llm_tokens": "soft", "agent_executions": "soft", "api_calls": "soft",
             "storage_gb": "hard", "user_seats": "hard"},
        ),
        # An unlimited quota has no end: enterprise has no rule for its seats.
        (
            {"plans": {"platform": "enterprise"}},
            {"llm_tokens": "overage", "agent_executions": "overage", "api_calls": "overage",
             "storage_gb": "overage"},
        ),
    ],
)  # fmt: skip
def test_the_license_says_how_each_quota_ends(
    terms: dict[str, dict[str, str]], rules: dict[str, str]
) -> None:
    entitled = compile_entitlements(CATALOG, Terms.model_validate(terms))
    signed = quota_rules(entitled.allowances)
    assert signed == {f"platform.{name}": rule for name, rule in rules.items()}


@pytest.mark.parametrize(
    ("more", "rule"), [({}, "soft"), ({"vision.integration.api_overage": 1}, "overage")]
)
def test_a_pool_ends_as_the_packs_bought_say(more: dict[str, int], rule: str) -> None:
    entitled = compile_entitlements(CATALOG, Terms(quantities={"vision.base_seat": 1, **more}))
    assert quota_rules(entitled.allowances)["vision.api_calls"] == rule


def test_documents_are_cut_anew_for_content_or_a_gained_day() -> None:
    end = LINE.end(NOW)
    stored = Issued(1, 1, b"a", end, "t")
    assert not must_issue(stored, b"a", end + 13 * DAY, NOW + 13 * DAY)
    assert must_issue(stored, b"a", end + 15 * DAY, NOW + 15 * DAY)
    assert must_issue(stored, b"b", end, NOW)
    assert must_issue(Issued(), b"a", end, NOW)
    # A hard end that is no later: nothing to gain.
    assert not must_issue(stored, b"a", end + DAY - 1, NOW + 20 * DAY)
    # An end that has passed is told to who holds a longer one, and only once.
    assert must_issue(stored, b"a", NOW - 5, NOW)
    told = Issued(2, 1, b"a", NOW - 5, "t")
    assert not must_issue(told, b"a", NOW - 5, NOW)
    assert must_issue(told, b"b", NOW - 5, NOW)
    # So is one that came nearer; a server whose clock is behind cuts nothing.
    assert must_issue(stored, b"a", NOW + DAY, NOW)
    assert not must_issue(stored, b"a", end - 5, NOW - 5)
    # Who never had one gets none after the end, but within grace.
    assert not must_issue(Issued(), b"a", NOW, NOW)
    assert must_issue(Issued(), b"a", NOW - 5, NOW, grace=10)


def test_end_is_the_earliest_hard_end() -> None:
    assert LINE.end(NOW, None, None) == NOW + 45 * DAY
    assert LINE.end(NOW, NOW + 5, None, NOW + 3) == NOW + 3


def test_gauge_repeats_the_last_and_starts_with_its_first_value() -> None:
    start = datetime(2026, 11, 1, tzinfo=UTC)
    seen = {start + timedelta(days=1): Decimal(4), start + timedelta(days=3): Decimal(8)}
    now = start + timedelta(days=4, hours=3)
    assert mean_of_days(seen, None, start, now) == Decimal(6)
    assert mean_of_days(seen, Decimal(1), start, now) == Decimal(5)
    assert mean_of_days({}, None, start, now) is None


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)
usage_events = st.builds(
    lambda tail, quantity, key, camera, attributes: UsageEvent(
        id=str(from_parts(NOW * 1000, tail)),
        meter="vision.api_calls",
        quantity=quantity,
        key=key,
        camera_id=camera,
        attributes=attributes,
    ),
    st.integers(0, 2**70),
    st.from_regex(r"(0|[1-9][0-9]{0,14})(\.[0-9]{0,8}[1-9])?", fullmatch=True),
    st.none() | texts,
    st.none() | texts,
    st.dictionaries(
        st.from_regex(r"[A-Za-z][A-Za-z0-9_.]{0,9}", fullmatch=True), texts, max_size=4
    ),
)


@given(st.lists(usage_events, min_size=1, max_size=5, unique_by=lambda e: e.id))
def test_every_sealed_event_is_good_and_hashes_as_its_sender_hashes_it(
    events: list[UsageEvent],
) -> None:
    raws = [json.dumps(event.to_wire()).encode() for event in events]
    judged = judge(arrived(raws), CATALOG, {"vision"}, NOW * 1000)
    assert judged.bad == []
    assert [(str(e.id), e.content_hash.hex()) for e in judged.good] == [
        (event.id, event.content_hash) for event in events
    ]
    assert all(isinstance(e, LedgerEvent) and e.occurred_at.timestamp() == NOW for e in judged.good)


def test_same_event_twice_in_a_batch_is_one_and_with_other_content_is_set_aside() -> None:
    event = UsageEvent(id=str(from_parts(NOW * 1000, 1)), meter="vision.api_calls", quantity="1")
    raw = json.dumps(event.to_wire()).encode()
    other = raw.replace(b'"1"', b'"2"')
    judged = judge(arrived([raw, raw, other]), CATALOG, {"vision"}, NOW * 1000)
    assert len(judged.good) == 1
    assert [(b.position, b.reason) for b in judged.bad] == [(2, "DuplicateIdOtherContent")]


def test_envelope_keeps_the_signed_bytes() -> None:
    envelope = parse_envelope(b'{"header":"x","events":[ {"a" : 1},2]}')
    assert bytes(envelope.events) == b'[ {"a" : 1},2]'
    assert Arrived(bytes(envelope.events)).raws == [b'{"a" : 1}', b"2"]


def test_secret_settings_come_from_files_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "pepper"
    secret.write_text("p" * 20 + "\n")
    monkeypatch.setenv("BRINKBYTE_DATABASE_URL", "postgresql://x")
    monkeypatch.setenv("BRINKBYTE_SIGNING_KEYS_DIR", str(tmp_path))
    with pytest.raises(SettingsError, match="BRINKBYTE_PEPPER"):
        ServerSettings.load()
    monkeypatch.setenv("BRINKBYTE_PEPPER_FILE", str(secret))
    found = ServerSettings.load()
    assert found.pepper.get_secret_value() == "p" * 20
    assert "p" * 20 not in repr(found)
    # A missing file: no value for a role's password, an error for everything else.
    monkeypatch.setenv("BRINKBYTE_PEPPER_FILE", str(tmp_path / "nothing"))
    monkeypatch.setenv("BRINKBYTE_MIGRATION_DATABASE_URL", "postgresql://x")
    monkeypatch.setenv("BRINKBYTE_API_PASSWORD_FILE", str(tmp_path / "nothing"))
    monkeypatch.setenv("BRINKBYTE_ADMIN_PASSWORD_FILE", str(secret))
    roles = MigrationSettings.load()
    assert roles.api_password is None
    assert roles.admin_password is not None
    with pytest.raises(SettingsError, match="cannot read"):
        ServerSettings.load()
