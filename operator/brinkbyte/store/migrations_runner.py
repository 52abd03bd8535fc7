"""Schema migrations: numbered SQL files inside the package, each applied once, each whole.

A file is ``NNNN_name.sql``. Every migration commits together with its row in
``schema_migrations``, under an advisory lock: killed anywhere, the next run goes on; two runs at
once take turns. A database that is newer than this release is left as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import psycopg

from brinkbyte.kit.canonical import sha256_hex
from brinkbyte.kit.errors import PermanentError
from brinkbyte.kit.failpoints import failpoint
from brinkbyte.kit.logging import get_logger

_LOCK: Final = 0x6272_696E_6B00_0001  # "brink" and a number of our own
_FILE_NAME: Final = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
_log = get_logger(__name__)


class MigrationError(PermanentError):
    """The schema cannot be brought up to date; nothing of the refused migration was applied."""


@dataclass(frozen=True)
class Migration:
    """One numbered SQL file."""

    version: int
    name: str
    script: bytes

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, hex."""
        return sha256_hex(self.script)


def load_migrations(folder: Traversable | None = None) -> list[Migration]:
    """Read the migrations in order of their numbers.

    Args:
        folder: where the files are; the package's own by default.

    Raises:
        MigrationError: a file is misnamed, or two have the same number.
    """
    source = folder if folder is not None else files("brinkbyte.store") / "migrations"
    found: dict[int, Migration] = {}
    for file in sorted(source.iterdir(), key=lambda item: item.name):
        if not file.name.endswith(".sql"):
            continue
        match = _FILE_NAME.match(file.name)
        if match is None:
            raise MigrationError(f"{file.name}: name it NNNN_name.sql", reason="MisnamedMigration")
        migration = Migration(int(match[1]), match[2], file.read_bytes())
        if migration.version in found:
            raise MigrationError(
                f"{file.name} and {found[migration.version].name} have the same number; "
                "give one of them the next free number",
                reason="MisnamedMigration",
            )
        found[migration.version] = migration
    return [found[version] for version in sorted(found)]


def migrate(dsn: str, *, folder: Traversable | None = None) -> list[int]:
    """Bring the schema up to date and return the versions that were applied now.

    Raises:
        MigrationError: reason ``ChangedMigration`` when an applied file was edited afterwards, or
            ``MigrationFailed`` when PostgreSQL refuses a statement.
        psycopg.OperationalError: the database cannot be reached.
    """
    migrations = load_migrations(folder)
    applied_now: list[int] = []
    with psycopg.connect(
        dsn, autocommit=True, application_name="brinkbyte-migrate", connect_timeout=10
    ) as connection:
        # Held by the session: a killed run frees it with its connection.
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        connection.execute(_TABLE)
        rows = connection.execute("SELECT version, checksum FROM schema_migrations").fetchall()
        applied: dict[int, str] = dict(rows)
        for migration in migrations:
            checksum = applied.get(migration.version)
            if checksum is not None and checksum != migration.checksum:
                raise MigrationError(
                    f"migration {migration.version:04d}_{migration.name} was changed after it had "
                    "been applied to this database; restore the file of the release and add a new "
                    "migration for the change",
                    reason="ChangedMigration",
                )
        for migration in migrations:
            if migration.version not in applied:
                _apply(connection, migration)
                applied_now.append(migration.version)
    if applied_now:
        _log.info("schema migrated", versions=applied_now)
    return applied_now


def _apply(connection: psycopg.Connection[tuple[object, ...]], migration: Migration) -> None:
    try:
        with connection.transaction():
            connection.execute(migration.script)
            connection.execute(
                "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
                (migration.version, migration.name, migration.checksum),
            )
            failpoint("migrate.before_commit")
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise MigrationError(
            f"migration {migration.version:04d}_{migration.name} failed and was rolled back: "
            f"{str(error).splitlines()[0]}",
            reason="MigrationFailed",
        ) from error
    failpoint("migrate.committed")
