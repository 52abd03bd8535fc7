"""SQL of a customer's people, their sessions and links, and of guesses."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from brinkbyte.billing.db import Connection, Row


async def insert(
    connection: Connection,
    tenant_id: str,
    user_id: UUID,
    *,
    email: str,
    email_hash: bytes,
    name: str,
    role: str,
    actor: str,
    now: datetime,
) -> bool:
    """Add a person; False if the address is one of the customer's already."""
    cursor = await connection.execute(
        "INSERT INTO tenant_users (tenant_id, user_id, email, email_hash, name, role, created_at, "
        "created_by) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (tenant_id, email_hash) WHERE removed_at IS NULL DO NOTHING",
        [tenant_id, user_id, email, email_hash, name, role, now, actor],
    )
    return cursor.rowcount == 1


async def find(connection: Connection, tenant_id: str, user_id: UUID) -> Row | None:
    """Return a person who has not been removed."""
    cursor = await connection.execute(
        "SELECT * FROM tenant_users WHERE tenant_id = %s AND user_id = %s AND removed_at IS NULL",
        [tenant_id, user_id],
    )
    return await cursor.fetchone()


async def lock(connection: Connection, tenant_id: str, user_id: UUID) -> Row | None:
    """Return a person who has not been removed, and lock the row."""
    cursor = await connection.execute(
        "SELECT * FROM tenant_users WHERE tenant_id = %s AND user_id = %s AND removed_at IS NULL "
        "FOR UPDATE",
        [tenant_id, user_id],
    )
    return await cursor.fetchone()


async def page(
    connection: Connection, tenant_id: str, *, before: UUID | None, limit: int
) -> list[Row]:
    """Return people, newest first, added before the one named; ids are UUIDv7."""
    cursor = await connection.execute(
        "SELECT * FROM tenant_users WHERE tenant_id = %(tenant)s AND removed_at IS NULL "
        "AND (%(before)s::uuid IS NULL OR user_id < %(before)s) "
        "ORDER BY user_id DESC LIMIT %(limit)s",
        {"tenant": tenant_id, "before": before, "limit": limit},
    )
    return await cursor.fetchall()


async def count(connection: Connection, tenant_id: str) -> tuple[int, int]:
    """Return how many people a customer has, and how many of them are owners."""
    cursor = await connection.execute(
        "SELECT count(*) AS people, count(*) FILTER (WHERE role = 'owner') AS owners "
        "FROM tenant_users WHERE tenant_id = %s AND removed_at IS NULL",
        [tenant_id],
    )
    row = await cursor.fetchone()
    return (0, 0) if row is None else (row["people"], row["owners"])


async def change(
    connection: Connection, tenant_id: str, user_id: UUID, *, role: str, name: str
) -> None:
    """Change a person's role and name."""
    await connection.execute(
        "UPDATE tenant_users SET role = %s, name = %s WHERE tenant_id = %s AND user_id = %s",
        [role, name, tenant_id, user_id],
    )


async def remove(connection: Connection, tenant_id: str, user_id: UUID, now: datetime) -> None:
    """Remove a person; the row stays for the audit log's names, the password does not."""
    await connection.execute(
        "UPDATE tenant_users SET removed_at = %s, password_hash = NULL "
        "WHERE tenant_id = %s AND user_id = %s",
        [now, tenant_id, user_id],
    )


async def verify(connection: Connection, tenant_id: str, user_id: UUID, now: datetime) -> None:
    """Note that the address is theirs."""
    await connection.execute(
        "UPDATE tenant_users SET verified_at = coalesce(verified_at, %s) "
        "WHERE tenant_id = %s AND user_id = %s",
        [now, tenant_id, user_id],
    )


async def set_password(
    connection: Connection, tenant_id: str, user_id: UUID, password_hash: str
) -> None:
    """Store a password's hash."""
    await connection.execute(
        "UPDATE tenant_users SET password_hash = %s WHERE tenant_id = %s AND user_id = %s",
        [password_hash, tenant_id, user_id],
    )


# Sessions.


async def add_session(
    connection: Connection,
    tenant_id: str,
    session_id: UUID,
    *,
    user_id: UUID,
    secret_hash: bytes,
    via: str,
    agent: str,
    now: datetime,
    expires_at: datetime,
) -> None:
    """Store a session under the hash of its secret; forget the person's that ended long ago."""
    await connection.execute(
        "DELETE FROM user_sessions WHERE tenant_id = %s AND user_id = %s "
        "AND expires_at < %s - interval '30 days'",
        [tenant_id, user_id, now],
    )
    await connection.execute(
        "INSERT INTO user_sessions (tenant_id, session_id, user_id, secret_hash, via, agent, "
        "created_at, seen_at, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [tenant_id, session_id, user_id, secret_hash, via, agent, now, now, expires_at],
    )


async def find_session(connection: Connection, tenant_id: str, session_id: UUID) -> Row | None:
    """Return a session."""
    cursor = await connection.execute(
        "SELECT * FROM user_sessions WHERE tenant_id = %s AND session_id = %s",
        [tenant_id, session_id],
    )
    return await cursor.fetchone()


async def sessions(
    connection: Connection, tenant_id: str, user_id: UUID, *, now: datetime, idle_since: datetime
) -> list[Row]:
    """Return a person's live sessions, newest first."""
    cursor = await connection.execute(
        "SELECT * FROM user_sessions WHERE tenant_id = %s AND user_id = %s AND ended_at IS NULL "
        "AND expires_at > %s AND seen_at > %s ORDER BY session_id DESC LIMIT 100",
        [tenant_id, user_id, now, idle_since],
    )
    return await cursor.fetchall()


async def end_session(
    connection: Connection, tenant_id: str, user_id: UUID, session_id: UUID, now: datetime
) -> bool | None:
    """End a person's session; False if it had ended, None if there is none."""
    cursor = await connection.execute(
        "UPDATE user_sessions s SET ended_at = coalesce(s.ended_at, %(now)s) "
        "FROM (SELECT ended_at FROM user_sessions WHERE tenant_id = %(tenant)s "
        "AND user_id = %(user)s AND session_id = %(session)s FOR UPDATE) AS before "
        "WHERE s.tenant_id = %(tenant)s AND s.session_id = %(session)s "
        "RETURNING before.ended_at IS NULL AS ended_now",
        {"now": now, "tenant": tenant_id, "user": user_id, "session": session_id},
    )
    row = await cursor.fetchone()
    return None if row is None else row["ended_now"]


async def end_sessions(
    connection: Connection,
    tenant_id: str,
    user_id: UUID,
    now: datetime,
    *,
    keep: UUID | None = None,
) -> int:
    """End a person's sessions, but for one; returns how many."""
    cursor = await connection.execute(
        "UPDATE user_sessions SET ended_at = %(now)s WHERE tenant_id = %(tenant)s "
        "AND user_id = %(user)s AND ended_at IS NULL "
        "AND session_id IS DISTINCT FROM %(keep)s::uuid",
        {"now": now, "tenant": tenant_id, "user": user_id, "keep": keep},
    )
    return cursor.rowcount


# Links.


async def add_link(
    connection: Connection,
    tenant_id: str,
    link_id: UUID,
    *,
    user_id: UUID,
    kind: str,
    secret_hash: bytes,
    now: datetime,
    expires_at: datetime,
) -> None:
    """Store a link under the hash of its token; forget the person's that ended long ago."""
    await connection.execute(
        "DELETE FROM user_links WHERE tenant_id = %s AND user_id = %s "
        "AND expires_at < %s - interval '30 days'",
        [tenant_id, user_id, now],
    )
    await connection.execute(
        "INSERT INTO user_links (tenant_id, link_id, user_id, kind, secret_hash, created_at, "
        "expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s)",
        [tenant_id, link_id, user_id, kind, secret_hash, now, expires_at],
    )


async def recent_links(
    connection: Connection, tenant_id: str, user_id: UUID, since: datetime
) -> int:
    """Return how many links a person was sent since a moment."""
    cursor = await connection.execute(
        "SELECT count(*) AS n FROM user_links WHERE tenant_id = %s AND user_id = %s "
        "AND created_at > %s",
        [tenant_id, user_id, since],
    )
    row = await cursor.fetchone()
    return 0 if row is None else row["n"]


async def use_link(
    connection: Connection, tenant_id: str, link_id: UUID, now: datetime
) -> Row | None:
    """Use a link; None if it was used, has ended, or its person was removed."""
    cursor = await connection.execute(
        "UPDATE user_links SET used_at = %s WHERE tenant_id = %s AND link_id = %s "
        "AND used_at IS NULL AND expires_at > %s RETURNING *",
        [now, tenant_id, link_id, now],
    )
    return await cursor.fetchone()


async def end_links(connection: Connection, tenant_id: str, user_id: UUID, now: datetime) -> None:
    """Make a person's links useless."""
    await connection.execute(
        "UPDATE user_links SET used_at = %s WHERE tenant_id = %s AND user_id = %s "
        "AND used_at IS NULL",
        [now, tenant_id, user_id],
    )


# Guesses.


async def note_attempt(connection: Connection, subject: bytes, now: datetime) -> Row:
    """Count an attempt before it is judged; returns the row as it was, with failures 0 if none."""
    await connection.execute(
        "DELETE FROM sign_in_attempts WHERE subject = ANY(ARRAY(SELECT subject "
        "FROM sign_in_attempts WHERE last_at < %s - interval '1 day' AND subject <> %s LIMIT 50 "
        "FOR UPDATE SKIP LOCKED))",
        [now, subject],
    )
    await connection.execute(
        "INSERT INTO sign_in_attempts (subject, failures, last_at) VALUES (%s, 0, %s) "
        "ON CONFLICT DO NOTHING",
        [subject, now],
    )
    cursor = await connection.execute(
        "SELECT failures, last_at FROM sign_in_attempts WHERE subject = %s FOR UPDATE", [subject]
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - inserted above
    return row


async def count_attempt(
    connection: Connection, subject: bytes, failures: int, now: datetime
) -> None:
    """Store how many attempts have failed in a row."""
    await connection.execute(
        "UPDATE sign_in_attempts SET failures = %s, last_at = %s WHERE subject = %s",
        [failures, now, subject],
    )


async def forget_attempts(connection: Connection, subject: bytes) -> None:
    """Forget the failures of an address: somebody has proven that it is theirs."""
    await connection.execute("DELETE FROM sign_in_attempts WHERE subject = %s", [subject])
