"""Rules of a customer's people: invited, given a role, removed; the last owner stays."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from brinkbyte.billing import audit
from brinkbyte.billing.api_keys.service import require_customer
from brinkbyte.billing.auth import Role, Secrets
from brinkbyte.billing.customers import repository as customers
from brinkbyte.billing.customers.lookup import unknown_customer
from brinkbyte.billing.db import Connection, Row
from brinkbyte.billing.users import links, repository
from brinkbyte.billing.users.schemas import User, UserInvite, UserPatch
from brinkbyte.kit.problem import ProblemError
from brinkbyte.kit.uuid7 import uuid7

MAX_PEOPLE: Final = 200
"""Of one customer."""


def address(email: str) -> str:
    """Return an e-mail address as it is compared: case does not matter."""
    return email.strip().lower()


def email_hash(secrets: Secrets, email: str) -> bytes:
    """Return the HMAC by which a person is looked up."""
    return secrets.named("e-mail address", address(email))


async def invite_in(
    connection: Connection,
    secrets: Secrets,
    customer_id: str,
    request: UserInvite,
    *,
    actor: str,
    now: int,
) -> User:
    """Add a person and send the invitation.

    Raises:
        ProblemError: 404 ``UnknownCustomer``; 409 ``UserExists`` or ``TooManyUsers``.
    """
    customer = await require_customer(connection, customer_id)
    people, _ = await repository.count(connection, customer_id)
    if people >= MAX_PEOPLE:
        raise ProblemError(
            409,
            f"there are {MAX_PEOPLE} people already; remove somebody first",
            reason="TooManyUsers",
            limit=MAX_PEOPLE,
        )
    user_id = uuid7()
    added = await repository.insert(
        connection,
        customer_id,
        user_id,
        email=address(request.email),
        email_hash=email_hash(secrets, request.email),
        name=request.name,
        role=request.role,
        actor=actor,
        now=datetime.fromtimestamp(now, UTC),
    )
    if not added:
        raise ProblemError(
            409,
            "this address is one of the customer's people already; change the role, or send the "
            "invitation again",
            reason="UserExists",
        )
    user = await _require(connection, customer_id, user_id)
    await links.send_in(
        connection, secrets, user, "invitation", customer_name=customer["name"], now=now
    )
    await _record(connection, user, "user.invited", actor, now=now, role=request.role)
    return as_user(user)


async def invite_again_in(
    connection: Connection,
    secrets: Secrets,
    customer_id: str,
    user_id: UUID,
    *,
    actor: str,
    now: int,
) -> User:
    """Send the invitation again; the one of before is good for nothing.

    Raises:
        ProblemError: 404 ``UnknownCustomer`` or ``UnknownUser``; 409 ``UserVerified``; 429
            ``TooManyInvitations``.
    """
    customer = await require_customer(connection, customer_id)
    user = await _require(connection, customer_id, user_id)
    if user["verified_at"] is not None:
        raise ProblemError(
            409, "this person has taken the invitation; they sign in now", reason="UserVerified"
        )
    moment = datetime.fromtimestamp(now, UTC)
    await repository.end_links(connection, customer_id, user_id, moment)
    sent = await links.send_in(
        connection, secrets, user, "invitation", customer_name=customer["name"], now=now
    )
    if sent is None:
        raise ProblemError(
            429,
            f"{links.PER_HOUR} invitations went out within the hour; wait",
            reason="TooManyInvitations",
            headers={"Retry-After": "3600"},
        )
    await _record(connection, user, "user.invited", actor, now=now, again=True)
    return as_user(user)


async def page_in(
    connection: Connection, customer_id: str, *, before: UUID | None, limit: int
) -> list[User]:
    """Return a customer's people, newest first.

    Raises:
        ProblemError: 404 ``UnknownCustomer``.
    """
    if await customers.find(connection, customer_id) is None:
        raise unknown_customer(customer_id)
    rows = await repository.page(connection, customer_id, before=before, limit=limit)
    return [as_user(row) for row in rows]


async def change_in(
    connection: Connection,
    customer_id: str,
    user_id: UUID,
    request: UserPatch,
    *,
    actor: str,
    now: int,
) -> User:
    """Change a person's role or name; live sessions have the new role at their next call.

    Raises:
        ProblemError: 404 ``UnknownCustomer`` or ``UnknownUser``; 409 ``LastOwner``.
    """
    await require_customer(connection, customer_id)
    user = await _require(connection, customer_id, user_id)
    role = request.role or user["role"]
    name = user["name"] if request.name is None else request.name
    if (role, name) == (user["role"], user["name"]):
        return as_user(user)
    if user["role"] == Role.OWNER and role != Role.OWNER:
        await _keep_an_owner(connection, customer_id, actor)
    await repository.change(connection, customer_id, user_id, role=role, name=name)
    details = {} if role == user["role"] else {"from": user["role"], "to": role}
    await _record(connection, user, "user.changed", actor, now=now, **details)
    return as_user({**user, "role": role, "name": name})


async def remove_in(
    connection: Connection, customer_id: str, user_id: UUID, *, actor: str, now: int
) -> None:
    """Remove a person; sessions and links end with it.

    Raises:
        ProblemError: 404 ``UnknownCustomer`` or ``UnknownUser``; 409 ``LastOwner``.
    """
    await require_customer(connection, customer_id)
    user = await _require(connection, customer_id, user_id)
    if user["role"] == Role.OWNER:
        await _keep_an_owner(connection, customer_id, actor)
    moment = datetime.fromtimestamp(now, UTC)
    await repository.remove(connection, customer_id, user_id, moment)
    await repository.end_sessions(connection, customer_id, user_id, moment)
    await repository.end_links(connection, customer_id, user_id, moment)
    await _record(connection, user, "user.removed", actor, now=now)


async def _keep_an_owner(connection: Connection, customer_id: str, actor: str) -> None:
    """Refuse what would leave a customer without an owner, unless the vendor does it.

    The customer's row is locked, so two owners never remove each other at once.
    """
    _, owners = await repository.count(connection, customer_id)
    if owners <= 1 and actor.startswith("user:"):
        raise ProblemError(
            409,
            "this is the last owner; make somebody else an owner first",
            reason="LastOwner",
        )


async def _require(connection: Connection, customer_id: str, user_id: UUID) -> Row:
    row = await repository.lock(connection, customer_id, user_id)
    if row is None:
        raise ProblemError(
            404, f"there is no person {user_id}; list them to see their ids", reason="UnknownUser"
        )
    return row


async def _record(
    connection: Connection,
    user: Row,
    action: str,
    actor: str,
    *,
    now: int,
    **details: Any,
) -> None:
    await audit.record(
        connection,
        user["tenant_id"],
        now=now,
        actor=actor,
        action=action,
        subject=str(user["user_id"]),
        details={"email": user["email"], **details},
    )


def as_user(row: Mapping[str, Any]) -> User:
    """Put a row into the answer's form."""
    verified = row["verified_at"]
    return User(
        user_id=str(row["user_id"]),
        email=row["email"],
        name=row["name"],
        role=row["role"],
        has_password=row["password_hash"] is not None,
        created_at=int(row["created_at"].timestamp()),
        created_by=row["created_by"],
        verified_at=None if verified is None else int(verified.timestamp()),
    )
