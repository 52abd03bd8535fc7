"""Walk the system catalogs: no table, index, key, grant, role or function is an exception."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from brinkbyte.billing.migrate import ADMIN, API, LOGIN_ROLES, OWNER, WORKER
from services.billing.conftest import Billing
from services.billing.site import Site, camera, device, key_pair
from support.billing import CUSTOMER, DEFAULT_TERMS, PASSWORDS
from support.postgres import PostgresServer

NOT_TENANT_TABLES = {
    "schema_migrations",
    "operator_credentials",
    "own_audit_log",
    # The vendor's own; the api role may put into the inbox and read nothing.
    "provider_cursors",
    "webhook_events",
    # Sealed answers and counted guesses under HMACs: nothing of a customer's can be read there.
    "own_idempotent_answers",
    "sign_in_attempts",
}
TENANT_TABLES = f"""
    SELECT c.oid, c.relname, c.relkind, c.relrowsecurity, c.relforcerowsecurity, c.relispartition
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p')
    AND c.relname NOT IN ({", ".join(f"'{name}'" for name in sorted(NOT_TENANT_TABLES))})
"""


@pytest.fixture
def catalog(postgres_server: PostgresServer, database: str) -> Iterator[Any]:
    with psycopg.connect(postgres_server.dsn(database), row_factory=dict_row) as connection:
        yield lambda statement, *values: connection.execute(statement, values).fetchall()


def connect(server: PostgresServer, database: str, role: str) -> psycopg.Connection[Any]:
    return psycopg.connect(server.dsn(database, user=role, password=PASSWORDS[role]))


def test_row_security_is_enabled_and_forced_on_every_tenant_table(catalog: Any) -> None:
    tables = catalog(TENANT_TABLES)
    assert len(tables) > 15
    assert [
        t["relname"] for t in tables if not (t["relrowsecurity"] and t["relforcerowsecurity"])
    ] == []


def test_every_tenant_table_has_tenant_id_not_null(catalog: Any) -> None:
    wrong = catalog(
        f"SELECT t.relname FROM ({TENANT_TABLES}) t LEFT JOIN pg_attribute a "
        "ON a.attrelid = t.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped "
        "WHERE a.attnum IS NULL OR NOT a.attnotnull"
    )
    assert wrong == []


def test_every_unique_index_of_a_tenant_table_starts_with_tenant_id(catalog: Any) -> None:
    wrong = catalog(
        f"SELECT i.indexrelid::regclass::text AS name FROM ({TENANT_TABLES}) t "
        "JOIN pg_index i ON i.indrelid = t.oid AND i.indisunique "
        "JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0] "
        "WHERE a.attname <> 'tenant_id'"
    )
    assert wrong == []


def test_every_foreign_key_of_a_tenant_table_starts_with_tenant_id(catalog: Any) -> None:
    wrong = catalog(
        f"SELECT k.conname FROM ({TENANT_TABLES}) t "
        "JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f' "
        "JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.conkey[1] "
        "JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = k.confkey[1] "
        "WHERE a.attname <> 'tenant_id' OR b.attname <> 'tenant_id'"
    )
    assert wrong == []


def test_api_policy_of_every_table_names_the_tenant(catalog: Any) -> None:
    policies = catalog(
        "SELECT p.polname, p.polrelid::regclass::text AS tab, p.polcmd, p.polpermissive, "
        "pg_get_expr(p.polqual, p.polrelid) AS using, "
        "pg_get_expr(p.polwithcheck, p.polrelid) AS checked, "
        "ARRAY(SELECT rolname FROM pg_roles WHERE oid = ANY(p.polroles))::text[] AS roles "
        "FROM pg_policy p"
    )
    tenant = "(tenant_id = current_tenant())"
    tables = {t["relname"] for t in catalog(TENANT_TABLES) if not t["relispartition"]}
    for_api = [p for p in policies if API in p["roles"] or not p["roles"]]
    assert {p["tab"] for p in for_api} == tables
    assert {(p["using"], p["checked"], *p["roles"]) for p in for_api} == {(tenant, tenant, API)}
    others = [p for p in policies if API not in p["roles"]]
    assert {role for p in others for role in p["roles"]} == {ADMIN, WORKER, OWNER}
    assert {(p["tab"], p["polcmd"]) for p in others if OWNER in p["roles"]} == {
        ("credentials", "r"),
        ("instances", "r"),
        ("tenant_users", "r"),
        ("user_links", "r"),
        ("user_sessions", "r"),
    }
    for_worker = [p for p in others if WORKER in p["roles"]]
    assert {(p["polcmd"], p["using"], p["checked"]) for p in for_worker} == {
        ("r", "true", None),
        ("*", tenant, tenant),
    }


def test_nobody_has_a_grant_on_a_partition(catalog: Any) -> None:
    partitions = [t for t in catalog(TENANT_TABLES) if t["relispartition"]]
    assert len(partitions) > 30
    granted = catalog(
        f"SELECT t.relname, r.rolname FROM ({TENANT_TABLES}) t CROSS JOIN pg_roles r "
        "WHERE t.relispartition AND r.rolname = ANY(%s) "
        "AND has_table_privilege(r.oid, t.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')",
        list(LOGIN_ROLES),
    )
    assert granted == []


def test_nothing_is_granted_to_everybody(catalog: Any) -> None:
    tables = catalog(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, "
        "aclexplode(c.relacl) a WHERE n.nspname = 'public' AND a.grantee = 0"
    )
    assert tables == []
    functions = catalog(
        "SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
        "WHERE n.nspname = 'public' AND has_function_privilege('public', p.oid, 'EXECUTE') "
        "AND p.proname NOT IN ('current_tenant', 'first_uuid7')"
    )
    assert functions == []


def test_ledger_can_be_added_to_but_not_changed(catalog: Any) -> None:
    changed = catalog(
        "SELECT t.name, r.rolname FROM unnest(ARRAY['usage_events', 'usage_batches', 'audit_log', "
        "'own_audit_log', 'seat_history']) AS t(name) CROSS JOIN pg_roles r "
        "WHERE r.rolname = ANY(%s) "
        "AND has_table_privilege(r.oid, t.name, 'UPDATE, DELETE, TRUNCATE')",
        list(LOGIN_ROLES),
    )
    assert changed == []


def test_only_the_key_lookup_runs_as_its_owner(catalog: Any) -> None:
    found = catalog(
        "SELECT p.proname, p.proconfig, r.rolname FROM pg_proc p "
        "JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_roles r ON r.oid = p.proowner "
        "WHERE n.nspname = 'public' AND p.prosecdef"
    )
    assert [(f["proname"], f["rolname"]) for f in found] == [("find_credential", OWNER)]
    assert found[0]["proconfig"] == ["search_path=pg_catalog, pg_temp"]


def test_no_role_gets_past_row_security_or_becomes_another(catalog: Any) -> None:
    roles = catalog(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s) AND (rolsuper OR rolbypassrls "
        "OR rolcreaterole OR rolcreatedb OR rolreplication)",
        [OWNER, *LOGIN_ROLES],
    )
    assert roles == []
    members = catalog(
        "SELECT m.rolname FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member "
        "WHERE m.rolname = ANY(%s)",
        [OWNER, *LOGIN_ROLES],
    )
    assert members == []


def test_there_are_no_views_over_tenant_tables_that_hide_the_caller(catalog: Any) -> None:
    views = catalog(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = 'public' AND (c.relkind = 'm' OR (c.relkind = 'v' AND NOT "
        "coalesce('security_invoker=true' = ANY(c.reloptions), false)))"
    )
    assert views == []


@pytest.mark.parametrize("role", [OWNER, ADMIN, WORKER, "postgres"])
def test_api_cannot_become_another_role(
    postgres_server: PostgresServer, database: str, role: str
) -> None:
    with (
        connect(postgres_server, database, API) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(f"SET ROLE {role}")


def test_wrong_password_is_refused(postgres_server: PostgresServer, database: str) -> None:
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres_server.dsn(database, user=API, password="wrong"))


def test_owner_cannot_log_in(postgres_server: PostgresServer, database: str) -> None:
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres_server.dsn(database, user=OWNER, password=""))


async def test_without_a_tenant_no_row_is_there_and_none_can_be_written(
    acme: Site, billing: Billing
) -> None:
    await acme.inventory([device(1)], [camera(1)])
    await acme.report([acme.event()], billing.keys)
    tables = [t["relname"] for t in billing.query(TENANT_TABLES) if not t["relispartition"]]
    assert billing.query("SELECT count(*) AS n FROM usage_events")[0]["n"] == 1
    with connect(billing.server, billing.database, API) as connection:
        for setting in ("", "RESET brinkbyte.tenant_id", "SET brinkbyte.tenant_id = ''"):
            if setting:
                connection.execute(setting)
            for table in tables:
                if table != "audit_log":
                    rows = connection.execute(f"SELECT 1 FROM {table}").fetchall()
                    assert rows == [], table
        connection.commit()
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            connection.execute(
                "INSERT INTO billing_customers VALUES ('x', 'x', '{}', now(), now())"
            )


async def test_one_tenant_sees_and_changes_nothing_of_another(acme: Site, billing: Billing) -> None:
    await acme.inventory([device(1)], [camera(1)])
    await acme.report([acme.event()], billing.keys)
    await billing.customer("other", DEFAULT_TERMS)
    other = await billing.site("other", key=key_pair(1))
    mine = await other.inventory([device(1)], [camera(1)])
    assert mine["cameras"][0]["status"] == "issued"
    assert (await other.head())["epoch"] is None
    with connect(billing.server, billing.database, API) as connection:
        connection.execute("SET brinkbyte.tenant_id = 'other'")
        for table in ("devices", "seats", "instances", "licenses", "credentials"):
            rows = connection.execute(f"SELECT DISTINCT tenant_id FROM {table}").fetchall()
            assert rows == [("other",)], table
        assert connection.execute("SELECT 1 FROM usage_events").fetchall() == []
        done = connection.execute("UPDATE instances SET name = 'x' WHERE tenant_id = 'acme'")
        assert done.rowcount == 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            connection.execute("UPDATE instances SET tenant_id = 'acme'")


async def test_tenant_of_one_transaction_is_not_that_of_the_next(billing: Billing) -> None:
    await billing.customer(CUSTOMER, DEFAULT_TERMS)
    async with billing.context.database.tenant(CUSTOMER) as connection:
        cursor = await connection.execute("SELECT count(*) AS n FROM subscriptions")
        row = await cursor.fetchone()
        assert row is not None
        assert row["n"] == 1
    for _ in range(4):
        async with billing.context.database.nobody() as connection:
            cursor = await connection.execute("SELECT count(*) AS n FROM subscriptions")
            row = await cursor.fetchone()
            assert row is not None
            assert row["n"] == 0


def test_worker_reads_named_tables_only(postgres_server: PostgresServer, database: str) -> None:
    with connect(postgres_server, database, WORKER) as connection:
        connection.execute("SELECT 1 FROM usage_aggregates")
        for table in ("credentials", "operator_credentials", "seats", "usage_events"):
            with (
                pytest.raises(psycopg.errors.InsufficientPrivilege),
                connection.transaction(),
            ):
                connection.execute(f"SELECT 1 FROM {table}")


def test_key_lookup_is_for_the_api_role_alone(
    postgres_server: PostgresServer, database: str
) -> None:
    with (
        connect(postgres_server, database, WORKER) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("SELECT * FROM find_credential('x')")
