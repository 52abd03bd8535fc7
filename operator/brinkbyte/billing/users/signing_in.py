"""Signing in and out: passwords, links, sessions, and what guessing leads to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from brinkbyte.billing import audit
from brinkbyte.billing.auth import (
    ROLE_SCOPES,
    SESSION_IDLE,
    TenantCaller,
    csrf_token,
    find_credentials,
    scope_names,
)
from brinkbyte.billing.context import Context
from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.users import links, repository
from brinkbyte.billing.users.schemas import (
    LinkRequest,
    LinkSignIn,
    PasswordChange,
    Session,
    SessionRow,
    Sessions,
    SignIn,
)
from brinkbyte.billing.users.service import address, email_hash
from brinkbyte.kit.problem import ProblemError
from brinkbyte.kit.uuid7 import uuid7

SESSION_LIFE: Final = timedelta(days=7)
FREE_FAILURES: Final = 5
"""Wrong passwords in a row before an address has to wait."""
FIRST_WAIT: Final = timedelta(minutes=1)
LONGEST_WAIT: Final = timedelta(hours=1)
FORGOTTEN_AFTER: Final = timedelta(days=1)
FRESH_LINK: Final = timedelta(hours=1)
_AGENT_LENGTH: Final = 200


@dataclass(frozen=True)
class SignedIn:
    """A new session and the secret for its cookie."""

    session: Session
    secret: str


def wait_after(failures: int) -> timedelta:
    """Return how long an address waits after so many failures in a row: doubling, to an hour."""
    if failures < FREE_FAILURES:
        return timedelta()
    doubled: timedelta = FIRST_WAIT * 2 ** min(failures - FREE_FAILURES, 10)
    return min(doubled, LONGEST_WAIT)


async def _count_attempt(context: Context, subject: bytes) -> None:
    """Count an attempt as failed before it is judged, so that many at once gain nothing.

    Raises:
        ProblemError: 429 ``TooManyAttempts``; the same for addresses that nobody has.
    """
    now = datetime.fromtimestamp(context.now(), UTC)
    async with context.database.nobody() as connection:
        row = await repository.note_attempt(connection, subject, now)
        failures = 0 if row["last_at"] + FORGOTTEN_AFTER <= now else row["failures"]
        left = row["last_at"] + wait_after(failures) - now
        if left > timedelta():
            seconds = int(left.total_seconds()) + 1
            raise ProblemError(
                429,
                f"too many wrong passwords; wait {seconds} s, or ask for a sign-in link",
                reason="TooManyAttempts",
                headers={"Retry-After": str(seconds)},
            )
        await repository.count_attempt(connection, subject, failures + 1, now)


async def sign_in(context: Context, request: SignIn, agent: str) -> SignedIn:
    """Sign a person in by address and password.

    Raises:
        ProblemError: 401 ``SignInFailed``, whatever of it was wrong; 409 ``ChooseCustomer``; 429
            ``TooManyAttempts``.
    """
    subject = context.secrets.named("sign-in attempts", address(request.email))
    await _count_attempt(context, subject)
    accounts = await _accounts(context, request.email, request.customer_id)
    fitting = [
        row
        for row in accounts
        if await context.passwords.verify(request.password, row["password_hash"])
    ]
    if not accounts:
        # As slow for an address that nobody has.
        await context.passwords.verify(request.password, None)
    if not fitting:
        raise ProblemError(
            401,
            "address and password do not fit; try again, or ask for a sign-in link",
            reason="SignInFailed",
            headers={"WWW-Authenticate": "Session"},
        )
    if len(fitting) > 1:
        raise ProblemError(
            409,
            "this person belongs to several customers; send customerId, too",
            reason="ChooseCustomer",
            customers=[row["tenant_id"] for row in fitting],
        )
    (account,) = fitting
    async with context.database.tenant(account["tenant_id"]) as connection:
        user = await repository.lock(connection, account["tenant_id"], account["user_id"])
        if user is None or user["password_hash"] != account["password_hash"]:
            raise ProblemError(401, "the password has changed; try again", reason="SignInFailed")
        await repository.forget_attempts(connection, subject)
        return await _open(context, connection, user, "password", agent)


async def _accounts(context: Context, email: str, customer_id: str | None) -> list[Row]:
    async with context.database.nobody() as connection:
        found = await find_credentials(connection, email_hash(context.secrets, email))
    rows: list[Row] = []
    for account in found:
        if account.kind != "account" or account.tenant_id is None or account.user_id is None:
            continue
        if customer_id in (None, account.tenant_id):
            async with context.database.tenant(account.tenant_id) as connection:
                row = await repository.find(connection, account.tenant_id, account.user_id)
            if row is not None:
                rows.append(row)
    return rows


async def request_link(context: Context, request: LinkRequest) -> None:
    """Send a sign-in link to each of the address's accounts; whether there are any is not said."""
    for account in await _accounts(context, request.email, request.customer_id):
        tenant_id = account["tenant_id"]
        async with context.database.tenant(tenant_id) as connection:
            user = await repository.lock(connection, tenant_id, account["user_id"])
            customer = await customers.find(connection, tenant_id)
            if user is None or customer is None:
                continue
            sent = await links.send_in(
                connection,
                context.secrets,
                user,
                "sign_in",
                customer_name=customer["name"],
                now=context.now(),
            )
            if sent is not None:
                await _record(context, connection, user, "sign_in_link.sent", str(sent))


async def sign_in_by_link(context: Context, request: LinkSignIn, agent: str) -> SignedIn:
    """Sign a person in by an invitation or a sign-in link; sets a password when one is given.

    Raises:
        ProblemError: 401 ``LinkEnded``.
    """
    ended = ProblemError(
        401,
        "this link was used, has ended, or is none of ours; ask for a new one",
        reason="LinkEnded",
        headers={"WWW-Authenticate": "Session"},
    )
    async with context.database.nobody() as connection:
        found = await find_credentials(connection, context.secrets.hash(request.token))
    if not found or found[0].kind != "link" or found[0].tenant_id is None:
        raise ended
    link, tenant_id = found[0], found[0].tenant_id
    stored = None if request.password is None else await context.passwords.hash(request.password)
    now = datetime.fromtimestamp(context.now(), UTC)
    async with context.database.tenant(tenant_id) as connection:
        used = await repository.use_link(connection, tenant_id, link.credential_id, now)
        user = (
            None if used is None else await repository.lock(connection, tenant_id, used["user_id"])
        )
        if user is None:
            raise ended
        await repository.verify(connection, tenant_id, user["user_id"], now)
        subject = context.secrets.named("sign-in attempts", user["email"])
        await repository.forget_attempts(connection, subject)
        if stored is not None:
            await _set_password(context, connection, user, stored, keep=None)
        return await _open(context, connection, user, "link", agent)


async def _open(
    context: Context,
    connection: Connection,
    user: Row,
    via: Literal["password", "link"],
    agent: str,
) -> SignedIn:
    now = datetime.fromtimestamp(context.now(), UTC)
    secret, session_id = context.secrets.create("session"), uuid7()
    end = now + SESSION_LIFE
    await repository.add_session(
        connection,
        user["tenant_id"],
        session_id,
        user_id=user["user_id"],
        secret_hash=context.secrets.hash(secret),
        via=via,
        agent=agent.replace("\0", "")[:_AGENT_LENGTH],
        now=now,
        expires_at=end,
    )
    await _record(context, connection, user, "session.opened", str(session_id), via=via)
    return SignedIn(_session(context, user, session_id, secret, end), secret)


def _session(context: Context, user: Row, session_id: UUID, secret: str, end: datetime) -> Session:
    return Session(
        session_id=str(session_id),
        customer_id=user["tenant_id"],
        user_id=str(user["user_id"]),
        email=user["email"],
        name=user["name"],
        role=user["role"],
        scopes=tuple(scope_names(ROLE_SCOPES[user["role"]])),
        csrf_token=csrf_token(context.secrets, secret),
        expires_at=int(end.timestamp()),
    )


def _ids(caller: TenantCaller) -> tuple[UUID, UUID]:
    if caller.user_id is None or caller.session_id is None:
        raise ProblemError(403, "this call is for people; sign in first", reason="MissingScope")
    return caller.user_id, caller.session_id


async def current(context: Context, caller: TenantCaller, secret: str) -> Session:
    """Return the caller's session."""
    user_id, session_id = _ids(caller)
    async with context.database.tenant(caller.tenant_id) as connection:
        user = await repository.find(connection, caller.tenant_id, user_id)
        row = await repository.find_session(connection, caller.tenant_id, session_id)
    if user is None or row is None:
        raise ProblemError(401, "the session has ended; sign in again", reason="SessionEnded")
    return _session(context, user, session_id, secret, row["expires_at"])


async def sessions(context: Context, caller: TenantCaller) -> Sessions:
    """Return the caller's live sessions, newest first."""
    user_id, session_id = _ids(caller)
    now = datetime.fromtimestamp(context.now(), UTC)
    async with context.database.tenant(caller.tenant_id) as connection:
        rows = await repository.sessions(
            connection, caller.tenant_id, user_id, now=now, idle_since=now - SESSION_IDLE
        )
    return Sessions(
        sessions=tuple(
            SessionRow(
                session_id=str(row["session_id"]),
                agent=row["agent"],
                created_at=int(row["created_at"].timestamp()),
                seen_at=int(row["seen_at"].timestamp()),
                expires_at=int(row["expires_at"].timestamp()),
                current=row["session_id"] == session_id,
            )
            for row in rows
        )
    )


async def end_session(context: Context, caller: TenantCaller, session_id: UUID | None) -> None:
    """End one of the caller's sessions, by default this one; again is fine.

    Raises:
        ProblemError: 404 ``UnknownSession``.
    """
    user_id, own = _ids(caller)
    wanted = own if session_id is None else session_id
    now = datetime.fromtimestamp(context.now(), UTC)
    async with context.database.tenant(caller.tenant_id) as connection:
        ended = await repository.end_session(connection, caller.tenant_id, user_id, wanted, now)
        if ended is None:
            raise ProblemError(
                404, "you have no such session; list them to see", reason="UnknownSession"
            )
        if ended:
            await audit.record(
                connection,
                caller.tenant_id,
                now=context.now(),
                actor=caller.actor,
                action="session.ended",
                subject=str(wanted),
            )


async def change_password(context: Context, caller: TenantCaller, request: PasswordChange) -> None:
    """Set the caller's password; all their other sessions end.

    Raises:
        ProblemError: 403 ``WrongPassword``; 429 ``TooManyAttempts``.
    """
    user_id, session_id = _ids(caller)
    now = datetime.fromtimestamp(context.now(), UTC)
    async with context.database.tenant(caller.tenant_id) as connection:
        user = await repository.find(connection, caller.tenant_id, user_id)
        session = await repository.find_session(connection, caller.tenant_id, session_id)
    if user is None or session is None:
        raise ProblemError(401, "the session has ended; sign in again", reason="SessionEnded")
    fresh = session["via"] == "link" and session["created_at"] + FRESH_LINK > now
    if user["password_hash"] is not None and not fresh:
        subject = context.secrets.named("sign-in attempts", user["email"])
        await _count_attempt(context, subject)
        if not await context.passwords.verify(request.current or "", user["password_hash"]):
            raise ProblemError(
                403,
                "the current password is wrong; send it, or sign in by a link and set a new one",
                reason="WrongPassword",
            )
    stored = await context.passwords.hash(request.password)
    async with context.database.tenant(caller.tenant_id) as connection:
        locked = await repository.lock(connection, caller.tenant_id, user_id)
        if locked is None or locked["password_hash"] != user["password_hash"]:
            raise ProblemError(
                409, "the password has just been changed elsewhere; try again", reason="Changed"
            )
        await repository.forget_attempts(
            connection, context.secrets.named("sign-in attempts", user["email"])
        )
        await _set_password(context, connection, user, stored, keep=session_id)


async def _set_password(
    context: Context, connection: Connection, user: Row, stored: str, *, keep: UUID | None
) -> None:
    tenant_id, user_id = user["tenant_id"], user["user_id"]
    now = datetime.fromtimestamp(context.now(), UTC)
    await repository.set_password(connection, tenant_id, user_id, stored)
    await repository.end_links(connection, tenant_id, user_id, now)
    ended = await repository.end_sessions(connection, tenant_id, user_id, now, keep=keep)
    await _record(context, connection, user, "password.set", str(user_id), sessions_ended=ended)


async def _record(
    context: Context,
    connection: Connection,
    user: Row,
    action: str,
    subject: str,
    **details: object,
) -> None:
    await audit.record(
        connection,
        user["tenant_id"],
        now=context.now(),
        actor=f"user:{user['user_id']}",
        action=action,
        subject=subject,
        details=details,
    )
