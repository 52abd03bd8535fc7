"""Bring the billing database to this release: roles, numbered migrations, ledger partitions.

Safe to run again, by several at once, and after being killed at any point: an advisory lock admits
one runner, each migration is one transaction with its row in ``schema_migrations``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Final

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from brinkbyte.kit.errors import PermanentError

OWNER: Final = "brinkbyte_owner"
API: Final = "brinkbyte_api"
WORKER: Final = "brinkbyte_worker"
ADMIN: Final = "brinkbyte_admin"
LOGIN_ROLES: Final = (API, WORKER, ADMIN)

LEDGER_KEPT: Final = timedelta(days=400)
LEDGER_AHEAD: Final = timedelta(days=730)
_LOCK: Final = 7_266_746_201


class MigrationError(PermanentError):
    """The database cannot be brought to this release."""


@dataclass(frozen=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Return the release's migrations in order."""
    found = [
        Migration(
            int(entry.name.split("_", 1)[0]),
            entry.name,
            entry.read_text("utf-8"),
        )
        for entry in files("brinkbyte.billing").joinpath("migrations").iterdir()
        if entry.name.endswith(".sql")
    ]
    return sorted(found, key=lambda migration: migration.number)


def migrate(dsn: str, passwords: Mapping[str, str] | None = None) -> list[str]:
    """Bring a database to this release.

    Args:
        dsn: of a role that may create roles and use this database's ``public`` schema.
        passwords: by role name; a role that is left out keeps its password.

    Returns:
        Names of the migrations that were applied now.

    Raises:
        MigrationError: an applied migration was edited, the database is newer than this release,
            or a role has rights that would bypass row-level security.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        _ensure_roles(connection, passwords or {})
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(OWNER)))
        applied = _apply(connection)
        now = datetime.now(UTC)
        connection.execute(
            "SELECT ensure_usage_partitions(%s, %s)", [now - LEDGER_KEPT, now + LEDGER_AHEAD]
        )
        drop_old_ledger(connection, now)
    return applied


def drop_old_ledger(connection: Connection[TupleRow], now: datetime) -> list[str]:
    """Drop the months of the ledger that are past their time and that nothing needs any more.

    Args:
        connection: of the owner, in autocommit.
        now: the present.

    Returns:
        Names of the partitions that were dropped; none while others hold on to the ledger: the next
        run does it then.
    """
    known = connection.execute("SELECT to_regproc('drop_usage_partitions')").fetchone()
    if known is None or known[0] is None:
        return []  # a release before it
    try:
        with connection.transaction():
            connection.execute("SET LOCAL lock_timeout = '3s'")
            row = connection.execute(
                "SELECT drop_usage_partitions(%s)", [now - LEDGER_KEPT]
            ).fetchone()
    except psycopg.errors.LockNotAvailable:
        return []
    return [] if row is None else list(row[0])


def _apply(connection: Connection[TupleRow]) -> list[str]:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations ("
        "number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, "
        "applied_at timestamptz NOT NULL DEFAULT now())"
    )
    done: dict[int, tuple[str, str]] = {
        number: (name, checksum)
        for number, name, checksum in connection.execute(
            "SELECT number, name, checksum FROM schema_migrations"
        )
    }
    known = migrations()
    newer = sorted(set(done) - {migration.number for migration in known})
    if newer:
        raise MigrationError(
            f"the database has migration {newer[-1]} of a newer release; upgrade this program",
            reason="DatabaseNewer",
        )
    applied = []
    for migration in known:
        before = done.get(migration.number)
        if before is not None:
            if before[1] != migration.checksum:
                raise MigrationError(
                    f"migration {migration.name} was edited after it was applied as {before[0]}; "
                    "restore the file and put the change into a new one",
                    reason="MigrationEdited",
                )
            continue
        with connection.transaction():
            connection.execute(migration.text.encode())
            connection.execute(
                "INSERT INTO schema_migrations (number, name, checksum) VALUES (%s, %s, %s)",
                [migration.number, migration.name, migration.checksum],
            )
        applied.append(migration.name)
    return applied


def _ensure_roles(connection: Connection[TupleRow], passwords: Mapping[str, str]) -> None:
    for role in (OWNER, *LOGIN_ROLES):
        # Roles belong to the whole cluster: another database's migration may make them right now.
        connection.execute(
            sql.SQL(
                "DO $$ BEGIN CREATE ROLE {role} NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT "
                "NOREPLICATION NOBYPASSRLS; "
                "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            ).format(role=sql.Identifier(role))
        )
    wrong = [
        name
        for (name,) in connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s) "
            "AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolreplication)",
            [[OWNER, *LOGIN_ROLES]],
        )
    ]
    wrong += [
        f"{member} (member of {group})"
        for member, group in connection.execute(
            "SELECT m.rolname, g.rolname FROM pg_auth_members a "
            "JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid "
            "WHERE m.rolname = ANY(%s)",
            [[OWNER, *LOGIN_ROLES]],
        )
    ]
    if wrong:
        raise MigrationError(
            f"these roles could get past row-level security: {', '.join(wrong)}; take superuser, "
            "BYPASSRLS, CREATEROLE, REPLICATION and memberships away from them",
            reason="UnsafeRole",
        )
    for role, password in passwords.items():
        _set_password(connection, role, password)
    if not _may_set_role(connection):
        connection.execute(
            sql.SQL("GRANT {owner} TO CURRENT_USER").format(owner=sql.Identifier(OWNER))
        )
    connection.execute(
        sql.SQL(
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT USAGE, CREATE ON SCHEMA public "
            "TO {owner}; GRANT USAGE ON SCHEMA public TO {api}, {worker}, {admin}"
        ).format(
            owner=sql.Identifier(OWNER),
            api=sql.Identifier(API),
            worker=sql.Identifier(WORKER),
            admin=sql.Identifier(ADMIN),
        )
    )


def _may_set_role(connection: Connection[TupleRow]) -> bool:
    row = connection.execute("SELECT pg_has_role(current_user, %s, 'MEMBER')", [OWNER]).fetchone()
    return bool(row and row[0])


def _set_password(connection: Connection[TupleRow], role: str, password: str) -> None:
    if role not in LOGIN_ROLES:
        raise MigrationError(f"{role} is not one of {', '.join(LOGIN_ROLES)}", reason="UnknownRole")
    # Only the SCRAM verifier travels: the server's log never sees the password.
    verifier = connection.pgconn.encrypt_password(
        password.encode(), role.encode(), b"scram-sha-256"
    ).decode()
    for attempt in range(5):
        try:
            connection.execute(
                sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(role), sql.Literal(verifier)
                )
            )
        except psycopg.errors.InternalError_:
            # "tuple concurrently updated": another database's migration alters the same role.
            if attempt == 4:
                raise
        else:
            return
