"""Migrations: repeatable, one at a time, refusing what would be unsafe."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg
import pytest

from brinkbyte.billing import migrate as module
from brinkbyte.billing.migrate import API, MigrationError, migrate, migrations
from support.billing import PASSWORDS
from support.postgres import PostgresServer, running_postgres


@pytest.fixture
def empty(postgres_server: PostgresServer) -> str:
    return postgres_server.dsn(postgres_server.create_database())


def test_no_two_migrations_have_one_number() -> None:
    numbers = [m.number for m in migrations()]
    assert numbers == sorted(set(numbers))


def test_running_again_applies_nothing(empty: str) -> None:
    assert migrate(empty, PASSWORDS) == [m.name for m in migrations()]
    assert migrate(empty) == []


def test_several_at_once_on_several_new_databases(postgres_server: PostgresServer) -> None:
    databases = [postgres_server.dsn(postgres_server.create_database()) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        applied = list(pool.map(lambda dsn: migrate(dsn, PASSWORDS), databases * 2))
    assert sum(bool(names) for names in applied) == 3


def test_killed_half_way_is_finished_by_the_next_run(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [*migrations()[:2], module.Migration(3, "0003_x.sql", "CREATE TABLE x (); broken")]
    with monkeypatch.context() as patch:
        patch.setattr(module, "migrations", lambda: broken)
        with pytest.raises(psycopg.errors.SyntaxError):
            migrate(empty)
    with psycopg.connect(empty) as connection:
        row = connection.execute("SELECT to_regclass('x'), max(number) FROM schema_migrations")
        assert row.fetchone() == (None, 2)
    assert migrate(empty) == [m.name for m in migrations()[2:]]


def test_rows_of_an_earlier_release_are_brought_along(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = migrations()[:4]
    with monkeypatch.context() as patch:
        patch.setattr(module, "migrations", lambda: earlier)
        migrate(empty)
    with psycopg.connect(empty) as connection:
        connection.execute(
            "INSERT INTO billing_customers VALUES ('acme', 'Acme', '{}', now(), now())"
        )
        connection.execute(
            "INSERT INTO subscriptions VALUES ('acme', gen_random_uuid(), '{}', 'canceled', now(), "
            "NULL, NULL, now(), '2026-11-20T10:00:00Z')"
        )
        connection.execute(
            "INSERT INTO devices VALUES ('acme', 'd1', 'u', 'hw', 'managed', '', now(), now(), ''),"
            "('acme', 'd2', 'u', 'hw', 'basic', '', now(), NULL, '')"
        )
    migrate(empty)
    with psycopg.connect(empty) as connection:
        (end,) = connection.execute("SELECT hard_end FROM subscriptions").fetchone()  # type: ignore[misc]  # one row
        assert end == datetime(2026, 11, 21, tzinfo=UTC)
        tiers = connection.execute("SELECT registered_tier FROM devices ORDER BY name").fetchall()
        assert tiers == [("managed",), (None,)]
        forced = connection.execute(
            "SELECT bool_and(relforcerowsecurity) FROM pg_class "
            "WHERE relname IN ('subscriptions', 'devices')"
        )
        assert forced.fetchone() == (True,)


def test_edited_migration_is_refused(empty: str) -> None:
    migrate(empty)
    with psycopg.connect(empty) as connection:
        connection.execute("UPDATE schema_migrations SET checksum = 'x' WHERE number = 2")
    with pytest.raises(MigrationError, match="edited after it was applied"):
        migrate(empty)


def test_newer_database_is_refused(empty: str) -> None:
    migrate(empty)
    with psycopg.connect(empty) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (999, 'x', 'x')")
    with pytest.raises(MigrationError, match="upgrade this program"):
        migrate(empty)


def test_password_of_an_unknown_role_is_refused(empty: str) -> None:
    with pytest.raises(MigrationError, match="is not one of"):
        migrate(empty, {"postgres": "x"})


def test_roles_that_bypass_row_security_are_refused_and_a_plain_owner_will_do() -> None:
    with running_postgres() as server:
        database = server.create_database()
        server.execute(f"CREATE ROLE {API} BYPASSRLS")
        with pytest.raises(MigrationError, match="brinkbyte_api"):
            migrate(server.dsn(database))
        server.execute(f"ALTER ROLE {API} NOBYPASSRLS")
        server.execute("CREATE ROLE deployer LOGIN CREATEROLE PASSWORD 'deployer'")
        server.execute(f"ALTER DATABASE {database} OWNER TO deployer")
        dsn = server.dsn(database, user="deployer", password="deployer")
        assert migrate(dsn, PASSWORDS)
        assert migrate(dsn) == []


def test_ledger_partitions_reach_back_and_ahead(empty: str) -> None:
    migrate(empty)
    with psycopg.connect(empty) as connection:
        connection.execute(f"GRANT {module.OWNER} TO CURRENT_USER")
        (count,) = connection.execute(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'usage_events'::regclass"
        ).fetchone() or (0,)
        assert count >= 14 + 24
        for days in (-399, 0, 700):
            connection.execute(
                "INSERT INTO usage_events (tenant_id, id, occurred_at, meter, family, quantity, "
                "attributes, content_hash, instance_id, received_at) VALUES ('x', "
                "first_uuid7(now() + make_interval(days => %s)), now(), 'm', 'f', 1, '{}', 'x', "
                "'i', now())",
                [days],
            )
        connection.rollback()
