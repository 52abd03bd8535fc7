"""Tokens, trials and alarms from before rollouts were kept track of."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from brinkbyte.billing import migrate as module
from brinkbyte.billing.migrate import migrate, migrations
from brinkbyte.license.claims import TokenKind
from brinkbyte.license.tokens import sign
from support.licensing import camera_claims, license_claims, vendor
from support.postgres import PostgresServer

BEFORE = 6
INSTANCE = ("acme", "inst-1", "ns.acme", "uid", "cluster-1", "0.1.0", "key")


@pytest.fixture
def old(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """DSN of a database of that release, with a customer, a seat and an alarm."""
    name = postgres_server.create_database(prefix="migrated")
    dsn = postgres_server.dsn(name)
    earlier = [each for each in migrations() if each.number <= BEFORE]
    with monkeypatch.context() as patch:
        patch.setattr(module, "migrations", lambda: earlier)
        migrate(dsn)
    keys = vendor().keys
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO billing_customers VALUES ('acme', 'Acme', '{}', now(), now())"
        )
        connection.execute(
            "INSERT INTO instances (tenant_id, instance_id, name, uid, cluster_fingerprint, "
            "version, key_id, created_at, clone_alarm_at) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, now(), '2026-03-01T00:00:00Z')",
            INSTANCE,
        )
        connection.execute(
            "INSERT INTO licenses VALUES "
            "('acme', 'license', 'inst-1', 7, 7, '\\x00', %s, now(), now())",
            [sign(license_claims(), keys[TokenKind.LICENSE])],
        )
        connection.execute(
            "INSERT INTO seats (tenant_id, camera_id, seat_id, request_name, hardware_id, mode, "
            "growth_packs, skus, taken_at, until, token) VALUES "
            "('acme', 'cam-1', 's1', 'c1', 'hw-1', 'trial', '{}', '{}', '2026-01-01T00:00:00Z', "
            "'2026-03-20T00:00:00Z', %s), "
            "('acme', 'cam-2', 's2', 'c2', 'hw-1', 'base', '{}', '{}', now(), NULL, NULL)",
            [sign(camera_claims(), keys[TokenKind.CAMERA])],
        )
        for number, (camera, mode, day) in enumerate(
            [
                ("cam-1", "trial", 1),
                ("cam-2", "base", 1),
                ("cam-3", "trial", 5),
                ("cam-3", "trial", 9),
            ]
        ):
            connection.execute(
                "INSERT INTO seat_history (tenant_id, id, at, camera_id, seat_id, action, "
                "hardware_id, mode, growth_packs) VALUES ('acme', gen_random_uuid(), %s, %s, %s, "
                "'taken', 'hw-1', %s, '{}')",
                [datetime(2026, 1, day, tzinfo=UTC), camera, f"s{number}", mode],
            )
    yield dsn
    postgres_server.drop_database(name)


def test_what_was_signed_tried_and_suspected_before_is_known(old: str) -> None:
    migrate(old)
    keys = vendor().keys
    with psycopg.connect(old) as connection:

        def rows(statement: str) -> list[tuple[object, ...]]:
            return connection.execute(statement).fetchall()

        assert rows("SELECT key_id FROM licenses") == [(keys[TokenKind.LICENSE].kid,)]
        assert rows("SELECT key_id FROM seats ORDER BY camera_id") == [
            (keys[TokenKind.CAMERA].kid,),
            (None,),
        ]
        # A trial in use keeps its end; one of before runs 90 days from its first use.
        assert rows("SELECT camera_id, until FROM camera_trials ORDER BY camera_id") == [
            ("cam-1", datetime(2026, 3, 20, tzinfo=UTC)),
            ("cam-3", datetime(2026, 4, 5, tzinfo=UTC)),
        ]
        assert rows("SELECT instance_id, reason, raised_at FROM clone_alarms") == [
            ("inst-1", "TwoEpochs", datetime(2026, 3, 1, tzinfo=UTC))
        ]
        assert (
            rows("SELECT relname FROM pg_class WHERE relrowsecurity AND NOT relforcerowsecurity")
            == []
        )
